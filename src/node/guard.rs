//! What becomes of the loop's end.

use super::Shared;

/// Runs the loop on its thread and sees to it that its end is known.
///
/// A panic is told at once, with what it means: requests go on being served as last decided, and
/// only who asks for readiness, or reads the log, would ever learn that nothing decides any more.
pub(super) fn guarded(shared: &Shared, run: impl FnOnce()) {
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
    shared.ticks.end();
    if let Err(panic) = ended {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
        tracing::error!(
            panic = text,
            "the control loop has panicked: requests are served with the last weights, and \
             nothing is decided, ordered or reloaded until a restart; please report this"
        );
        std::panic::resume_unwind(panic);
    }
}
