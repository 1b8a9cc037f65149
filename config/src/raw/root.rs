//! The top of the file, and the tables that stand alone.

use foreshadow_control::{Mode, Pace};

use super::read::table;
use super::{
    AdminPlace, Bytes, Count, Either, EndpointText, FilePath, Flag, List, Map, OneOf, RawListener,
    RawService, Switch, Text, Time, TokenText, VariableName,
};
use crate::{LogFormat, LogLevel, Role};

/// How a mode is written.
pub(crate) type ModeName = OneOf<Mode>;
/// How a pace is.
pub(crate) type PaceName = OneOf<Pace>;

table! {
    /// Configuration of Foreshadow. In every value, ${NAME} and ${NAME:-default} stand for
    /// environment variables, and $$ is a dollar sign.
    RawConfig {
        /// Where clients connect.
        listeners: List<RawListener> = required,
        /// The services behind the proxy, by name.
        services: Map<RawService> = required,
        /// The admin API and metrics.
        admin: RawAdmin,
        /// Directory for history, decisions and the instance registry; made when absent.
        /// Default: foreshadow-state, in the working directory.
        state_dir: FilePath,
        /// Worker threads of the data plane, 1 to 1024. Default: one per core.
        workers: Count,
        /// What is logged and how.
        log: RawLog,
        /// Longest wait for requests in flight at the end, up to 1h. Default: 30s.
        drain_timeout: Time,
        /// When the file is read again.
        reload: RawReload,
        /// Where ticks are recorded for replay. Default: nowhere.
        recording: RawRecording,
        /// What is kept of the past, for forecasts of days and for a warm restart.
        history: RawHistory,
        /// The record of every action, chained by hashes.
        audit: RawAudit,
        /// Who is told of alerts besides the log, the metrics and the API.
        alerts: RawAlerts,
    }
}

table! {
    /// Who is told of alerts.
    RawAlerts {
        /// An endpoint that is told when an alert begins and when it ends, see docs/alerts.md. Default: none.
        webhook: RawAlertWebhook,
    }
}

table! {
    /// An endpoint for alerts: one POST with JSON when one begins, one when it ends.
    RawAlertWebhook {
        /// Where it is: http://HOST:PORT, perhaps with a path, or unix:/PATH.
        url: EndpointText = required,
        /// The bearer token that is sent: a table that says where to find it, or the token itself. Default:
        /// none.
        token: Either<TokenText, RawToken>,
        /// Further headers by name, at most 16. Their values are shown nowhere.
        headers: Map<Text>,
        /// Longest time for one answer, 100ms to 1m. Default: 5s.
        timeout: Time,
        /// For how long it is tried again to tell of an alert, 1s to 1d. Default: 1h.
        give_up: Time,
    }
}

table! {
    /// The admin API and metrics.
    RawAdmin {
        /// IP address and port (localhost is 127.0.0.1), or unix:/path. Default: 127.0.0.1:9900.
        address: AdminPlace,
        /// The bearer token that callers must send; required unless the address is loopback or a
        /// Unix socket. The token itself, or a table that says where to find it.
        token: Either<TokenText, RawToken>,
        /// Further tokens, each with a name that records of what it did carry, and a role.
        tokens: List<RawNamedToken>,
    }
}

table! {
    /// A token of one person or program.
    RawNamedToken {
        /// Its name: 1 to 63 letters, digits, -, _ or ., beginning with a letter or digit.
        name: Text = required,
        /// What it may do: report (push metrics and signals), read (look at everything but the
        /// configuration), operate (read, report and give orders), admin (everything).
        role: OneOf<Role> = required,
        /// The token itself, or a table that says where to find it.
        token: Either<TokenText, RawToken> = required,
    }
}

table! {
    /// The record of every action in `audit.db` of the state directory. Entries beyond these bounds
    /// go, the oldest first, and the record says so.
    RawAudit {
        /// How long entries are kept, 1d to 3660d. Default: 400d.
        keep: Time,
        /// Size the record is held to, 1MiB or more. Default: 1GiB.
        max_size: Bytes,
        /// File with a key of at least 32 characters: hashes are made with it (HMAC), so that who
        /// can write the record but not read the key cannot make it good again. Default: none.
        key_file: FilePath,
        /// How often the number and hash of the newest entry are logged, 1m to 1d. Default: 1h.
        checkpoint_interval: Time,
    }
}

table! {
    /// Where the token comes from: one of the two.
    RawToken {
        /// The environment variable that holds it.
        env: VariableName,
        /// The file that holds it.
        file: FilePath,
    }
}

table! {
    /// What is logged and how.
    RawLog {
        /// The least severe level that is logged. Default: info.
        level: OneOf<LogLevel>,
        /// How a line looks; auto is text on a terminal and JSON elsewhere. Default: auto.
        format: OneOf<LogFormat>,
    }
}

table! {
    /// When the file is read again; SIGHUP always does.
    RawReload {
        /// Whether a change of the file, or of a link on the way to it, reloads it. Default: true.
        watch: Flag,
    }
}

table! {
    /// Where ticks are recorded for replay. At each start that comes to serve, and when the file has
    /// grown beyond max_size, it is moved to `<path>.1` and a new one is begun; those before go to
    /// `.2` and so on to `.5`, the oldest goes. One process records to a path: `<path>.lock` says
    /// which. All of them are readable by their owner only.
    RawRecording {
        /// The file.
        path: FilePath = required,
        /// Size beyond which a new file is begun, 1MiB or more; with five older ones, all files
        /// together take about six times as much. Default: 256MiB.
        max_size: Bytes,
    }
}

table! {
    /// What is kept of the past in `history.db` of the state directory, by resolution. Rows older
    /// than their time go; so do the oldest and finest when the file outgrows max_size.
    RawHistory {
        /// Whether anything is kept at all. Default: on.
        enabled: Switch,
        /// How long rows of one second are kept, 10m to 30d. Default: 1d.
        keep_1s: Time,
        /// How long rows of one minute are kept, 1d to 366d. Default: 14d.
        keep_1m: Time,
        /// How long rows of 15 minutes are kept, 1d to 3660d. Default: 90d.
        keep_15m: Time,
        /// How long rows of one hour are kept, 1d to 3660d. Default: 730d.
        keep_1h: Time,
        /// Size the file is held to, 16MiB or more. Default: 1GiB.
        max_size: Bytes,
        /// How often what the controller has learned is saved, 1s to 1h. Default: 30s.
        snapshot_interval: Time,
        /// What was learned longer ago than this is not taken up again at start, up to 366d.
        /// Default: 7d.
        snapshot_max_age: Time,
    }
}
