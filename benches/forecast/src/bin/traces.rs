//! Lists the traces that the benches find: name, step, length, share recorded.
#![expect(clippy::print_stdout, reason = "the list is the purpose of this program")]

use foreshadow_bench_forecast::{TRACES_VARIABLE, TraceError, load_all, traces_dir};

fn main() -> Result<(), TraceError> {
    let Some(dir) = traces_dir() else {
        println!("{{\"skipped\": \"no traces; set {TRACES_VARIABLE} to their folder\"}}");
        return Ok(());
    };
    for trace in load_all(&dir)? {
        let known = trace.values.iter().flatten().count();
        println!(
            "{} step {} ms, {known} of {} steps",
            trace.name,
            trace.step_ms,
            trace.values.len()
        );
    }
    Ok(())
}
