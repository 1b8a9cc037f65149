//! Instances that move elsewhere, a part of their requests at a time.

mod view;

pub use self::view::{
    MigrationCheck, MigrationChoice, MigrationOrder, MigrationPhase, MigrationSchedule,
    MigrationSpec, MigrationView, MigrationsSeen,
};
