//! The built command on recorded demand: tables, logs, a server, and what cannot be read.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::support::foreshadow;

/// Two hours by the minute, with a jump in the second.
const MINUTES: u64 = 120;

fn rps(minute: u64) -> u64 {
    if minute < 60 { 100 } else { 400 }
}

fn backtest(arguments: &[&str]) -> Output {
    foreshadow().arg("backtest").args(arguments).output().unwrap()
}

fn report(arguments: &[&str]) -> Value {
    let output = backtest(arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}");
    assert!(said.is_empty(), "without a terminal there is no progress to show: {said}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn complaint(arguments: &[&str]) -> String {
    let output = backtest(arguments);
    assert!(!output.status.success(), "{arguments:?}");
    String::from_utf8(output.stderr).unwrap()
}

fn written(dir: &Path, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

fn table() -> String {
    let mut text = "when,host,requests\n".to_owned();
    for minute in 0..MINUTES {
        writeln!(text, "{},web,{}", 1_700_000_000 + minute * 60, rps(minute)).unwrap();
    }
    text
}

const WORLD: [&str; 10] = [
    "--json",
    "--even",
    "--hold",
    "--learn",
    "0s",
    "--capacity",
    "110",
    "--start-up",
    "2m",
    "--tick=10s",
];

#[test]
fn a_table_becomes_a_report_and_a_page_that_needs_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let path = written(dir.path(), "demand.csv", table());
    let path = path.to_str().unwrap();
    let page = dir.path().join("report.html");
    let mut arguments =
        vec![path, "--time", "when", "--value", "requests", "--html", page.to_str().unwrap()];
    arguments.extend(WORLD);
    for policy in ["oracle", "static:4", "static:1", "reactive:0.9", "brain"] {
        arguments.extend(["--policy", policy]);
    }
    let report = report(&arguments);
    assert_eq!(report["demand"]["mean_rps"], json!(250.0));
    assert_eq!(report["history"]["read"]["samples"], json!(MINUTES));
    let rows = report["worlds"][0]["rows"].as_array().unwrap();
    let row = |policy: &str| rows.iter().find(|row| row["policy"] == policy).unwrap();
    // One needs 1 instance for an hour, 4 for the next, and 3 of them two minutes before.
    let oracle_h = row("oracle")["instance_hours"].as_f64().unwrap();
    assert!((oracle_h - (5.0 + 3.0 * 130.0 / 3_600.0)).abs() < 1e-6, "{oracle_h}");
    assert_eq!(row("oracle")["violation_s"], json!(0.0));
    assert_eq!(row("static:4")["instance_hours"].as_f64().map(f64::round), Some(8.0));
    assert_eq!(row("static:1")["violation_s"], json!(3_600.0));
    for late in ["reactive:0.9", "brain"] {
        let late_s = row(late)["violation_s"].as_f64().unwrap();
        assert!(
            (110.0..=170.0).contains(&late_s),
            "nobody could know of the jump: {late} {late_s}"
        );
    }
    let page = std::fs::read_to_string(&page).unwrap();
    assert!(page.contains("<svg") && page.contains("prefers-color-scheme: dark"));
    for foreign in ["http://", "https://", "<script", "<link", "@import", "url("] {
        assert!(!page.contains(foreign), "the page asks for {foreign}");
    }
    let text = backtest(&arguments[..5]);
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.contains("instance-hours") && text.contains("static:peak"), "{text}");
}

#[test]
fn the_same_run_prints_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let path = written(dir.path(), "demand.csv", table());
    let arguments = [path.to_str().unwrap(), "--time=#1", "--value=#3", "--json", "--seed=5"];
    assert_eq!(backtest(&arguments).stdout, backtest(&arguments).stdout);
}

#[test]
fn a_compressed_access_log_is_counted() {
    let mut log = String::new();
    for second in 0..900_u64 {
        for _ in 0..(if second < 600 { 3 } else { 9 }) {
            let (minute, second) = (second / 60, second % 60);
            let line = format!(
                "192.0.2.1 - - [10/Oct/2023:13:{minute:02}:{second:02} +0000] \"GET / HTTP/1.1\" 200 2326 \"-\" \"curl\""
            );
            writeln!(log, "{line}").unwrap();
        }
    }
    log.push_str("and a line that is cut o");
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(log.as_bytes()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = written(dir.path(), "access.log.gz", gzip.finish().unwrap());
    let path = path.to_str().unwrap();
    let report =
        report(&[path, "--json", "--capacity=5", "--policy=static:peak", "--policy=oracle"]);
    assert_eq!(report["demand"]["peak_rps"], json!(9.0));
    assert_eq!(report["history"]["read"]["samples"], json!(600 * 3 + 300 * 9));
    assert_eq!(report["history"]["read"]["skipped"], json!(1));
    let first = report["history"]["read"]["first_skipped"].as_str().unwrap();
    assert!(first.contains("there is no [time]"), "{first}");
}

/// A small server that speaks the format of Prometheus' `/api/v1/query_range`; it is not
/// Prometheus. Two series, whose sum is `rps`; it refuses more points than Prometheus would.
fn query_range_server(asked: Arc<Mutex<Vec<String>>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let request = lines.next().unwrap().unwrap();
            lines.by_ref().map_while(Result::ok).take_while(|line| !line.is_empty()).for_each(drop);
            let target = request.split(' ').nth(1).unwrap().to_owned();
            let body = answer(&target).to_string();
            asked.lock().unwrap().push(target);
            write!(
                stream,
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            )
            .unwrap();
        }
    });
    address
}

fn answer(target: &str) -> Value {
    let number = |key: &str| -> f64 {
        let value = target.split(&format!("{key}=")).nth(1).unwrap();
        value.split('&').next().unwrap().parse().unwrap()
    };
    if target.contains("query=sum%28&") {
        return json!({"status": "error", "errorType": "bad_data", "error": "parse error: unclosed left parenthesis"});
    }
    let (start, end, step) = (number("start"), number("end"), number("step"));
    let points = ((end - start) / step).floor() as u64 + 1;
    assert!(points <= 11_000, "Prometheus refuses {points} points");
    let values = |share: f64| -> Vec<Value> {
        (0..points)
            .map(|nth| {
                let at = start + nth as f64 * step;
                let minute = ((at - 1_700_000_000.0) / 60.0) as u64;
                json!([at, (share * rps(minute) as f64).to_string()])
            })
            .collect()
    };
    let series = |name: &str, share: f64| json!({"metric": {"pod": name}, "values": values(share)});
    json!({"status": "success", "data": {"resultType": "matrix",
           "result": [series("a", 0.25), series("b", 0.75)]}})
}

#[test]
fn a_server_is_asked_in_parts_and_its_series_are_summed() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let url = format!("http://{}/prefix", query_range_server(Arc::clone(&asked)));
    let mut arguments = vec!["--prometheus", &url, "--query", "rate(requests[1m])"];
    arguments.extend([
        "--from",
        "2023-11-14T22:13:20Z",
        "--to",
        "2023-11-15T02:13:19Z",
        "--step=1s",
    ]);
    arguments.extend(["--policy=oracle", "--policy=static:peak"]);
    arguments.extend(WORLD);
    let report = report(&arguments);
    assert_eq!(report["history"]["read"]["samples"], json!(4 * 3_600));
    assert_eq!(report["demand"]["peak_rps"], json!(400.0));
    assert_eq!(report["demand"]["mean_rps"], json!(325.0));
    let asked = std::mem::take(&mut *asked.lock().unwrap());
    assert_eq!(asked.len(), 2, "{asked:?}");
    assert!(asked[0].starts_with(
        "/prefix/api/v1/query_range?query=rate%28requests%5B1m%5D%29&start=1700000000.000&"
    ));

    let said = complaint(&["--prometheus", &url, "--query", "sum("]);
    assert!(said.contains("unclosed left parenthesis"), "{said}");
}

#[test]
fn what_cannot_be_used_is_told_with_a_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let demand = written(dir.path(), "demand.csv", table());
    let demand = demand.to_str().unwrap();
    let empty = written(dir.path(), "empty.csv", "");
    let binary = written(dir.path(), "binary", [0xff_u8, 0x00, 0x0a].repeat(40));
    for (arguments, remedy) in [
        (vec![demand], "name it with --time"),
        (vec![demand, "--time=when", "--value=rps"], "there is no value column \"rps\""),
        (vec![demand, "--time=when", "--value=host"], "\"web\" is no number"),
        (vec![demand, "--time=when", "--value=#3", "--tick=2m"], "give one between 10 ms and 60 s"),
        (vec![demand, "--time=when", "--value=#3", "--capacity=0"], "--capacity is 0"),
        (vec![demand, "--time=when", "--value=#3", "--skip=3h"], "--skip and --take leave nothing"),
        (vec![demand, "--policy=brian"], "there is no policy \"brian\""),
        (vec!["nowhere.csv"], "cannot use nowhere.csv"),
        (vec![empty.to_str().unwrap()], "it is empty"),
        (vec![binary.to_str().unwrap()], "there is no time column"),
        (vec!["--prometheus=https://x", "--query=up"], "forward a local port"),
        (
            vec!["--prometheus=http://127.0.0.1:1", "--query=up"],
            "cannot read from http://127.0.0.1:1",
        ),
        (
            vec!["--state-db=nowhere.db", "--service=shop"],
            "there is no history database nowhere.db",
        ),
        (vec![], "give a file, --prometheus or --state-db"),
    ] {
        let said = complaint(&arguments);
        assert!(said.contains(remedy), "{arguments:?} said: {said}");
    }
}
