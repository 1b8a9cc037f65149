//! What is logged, kept for a test to look at.

use std::sync::{Arc, Mutex};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Keeps what is logged and wanted: its level, and all fields with their values.
#[derive(Clone)]
pub(crate) struct Logged {
    wanted: fn(&Metadata<'_>) -> bool,
    kept: Arc<Mutex<Vec<(Level, String)>>>,
}

impl Logged {
    pub(crate) fn new(wanted: fn(&Metadata<'_>) -> bool) -> Self {
        Self { wanted, kept: Arc::default() }
    }

    /// All that was kept so far, the oldest first.
    pub(crate) fn lines(&self) -> Vec<(Level, String)> {
        self.kept.lock().unwrap().clone()
    }
}

struct Fields(String);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0 += &format!("{field}={value:?};");
    }
}

impl Subscriber for Logged {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        (self.wanted)(metadata)
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields(String::new());
        event.record(&mut fields);
        self.kept.lock().unwrap().push((*event.metadata().level(), fields.0));
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}
