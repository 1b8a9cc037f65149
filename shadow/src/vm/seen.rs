//! What an emulator tells of its machine by itself.

use serde_json::Value;

/// Everything heard so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// Whether orders can be given now.
    pub(super) connected: bool,
    /// Whether nothing more will be heard.
    pub(super) closed: bool,
    /// Why the connection was last lost, or never made.
    pub(super) trouble: Option<String>,
    /// Whether its processors stand still.
    pub(super) stopped: bool,
    /// Whether its kernel has given up.
    pub(super) panicked: bool,
    /// The emulator's word for why it ends.
    pub(super) shutdown: Option<String>,
    /// What its disk met last.
    pub(super) disk: Option<String>,
}

impl Seen {
    pub(super) fn connected(&mut self, connected: bool) {
        self.connected = connected;
        if connected {
            self.trouble = None;
        }
    }

    /// Takes one event (QEMU's `qapi/run-state.json`, `qapi/block-core.json`).
    pub(super) fn hear(&mut self, event: &str, data: &Value) {
        match event {
            "STOP" => self.stopped = true,
            "RESUME" => {
                self.stopped = false;
                self.disk = None;
            }
            "GUEST_PANICKED" => self.panicked = true,
            "RESET" => tracing::debug!(%data, "a machine was reset"),
            "SHUTDOWN" => self.shutdown = data["reason"].as_str().map(str::to_owned),
            "BLOCK_IO_ERROR" => {
                let why = data["reason"].as_str().unwrap_or("an error");
                let why = crate::remote::shorten(why, 200);
                let room = match data["nospace"].as_bool() {
                    Some(true) => "; make room on the disk of `state_dir`",
                    _ => "",
                };
                self.disk = Some(format!("its disk cannot be used: {why}{room}"));
            }
            _ => {}
        }
    }

    /// How it ended, with what the kernel says of its process.
    pub(super) fn ending(&self, process: &str) -> String {
        let why = match self.shutdown.as_deref() {
            _ if self.panicked => "the guest's kernel panicked; ",
            Some("guest-panic") => "the guest's kernel panicked; ",
            Some("guest-shutdown") => "the guest powered itself off; ",
            Some("guest-reset") => "the guest restarted itself; ",
            _ => "",
        };
        format!("{why}{process}")
    }

    /// What stands in its way, in words.
    pub(super) fn complaints(&self) -> Vec<String> {
        let panicked = self.panicked.then(|| "its kernel panicked".to_owned());
        panicked.into_iter().chain(self.disk.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_end_is_told_with_why_the_guest_wanted_it() {
        for (events, wanted) in [
            (&[("SHUTDOWN", json!({"reason": "guest-shutdown"}))][..], "the guest powered itself"),
            (&[("SHUTDOWN", json!({"reason": "guest-reset"}))], "the guest restarted itself; exi"),
            (
                &[("GUEST_PANICKED", json!({})), ("SHUTDOWN", json!({"reason": "guest-panic"}))],
                "the guest's kernel panicked; exited",
            ),
            (&[("SHUTDOWN", json!({"reason": "host-signal"}))], "exited with code 0"),
            (&[], "exited with code 0"),
        ] {
            let mut seen = Seen::default();
            events.iter().for_each(|(event, data)| seen.hear(event, data));
            let told = seen.ending("exited with code 0");
            assert!(told.starts_with(wanted), "{told}");
        }
    }

    #[test]
    fn a_full_disk_is_a_complaint_until_it_goes_on() {
        let mut seen = Seen::default();
        seen.hear("BLOCK_IO_ERROR", &json!({"nospace": true, "reason": "No space left on device"}));
        seen.hear("STOP", &Value::Null);
        let told = seen.complaints().join(" ");
        assert!(seen.stopped && told.contains("No space left") && told.contains("make room"));
        seen.hear("RESUME", &Value::Null);
        assert!(!seen.stopped && seen.complaints().is_empty());
    }
}
