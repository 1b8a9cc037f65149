//! `foreshadow audit`: is the record of every action as it was written, and what does it say?

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use clap::Subcommand;
use foreshadow_config::AuditKey;

use crate::cli::StateDir;
use crate::explain::utc;
use crate::node::STATE_DB;
use crate::node::audit::{
    AUDIT_DB, Broken, Head, Key, Link, Query, Verified, every, kept_head, open_read_only, shown,
    verify,
};

/// What is asked of the record.
#[derive(Debug, Subcommand)]
pub(crate) enum Args {
    /// Hold every entry against its hash and the one before; a running node goes on meanwhile.
    #[command(after_help = "\
Examples:
  foreshadow audit verify -c foreshadow.yaml
  foreshadow audit verify --state-dir /var/lib/foreshadow --expect-head 1042:9f86d081...
  foreshadow audit verify --state-dir copy --key-file /etc/foreshadow/audit.key

Exit code: 0 when the record is whole, 1 when it is not; docs/audit.md says what is found out and
what is not.")]
    Verify(VerifyArgs),
    /// Print entries, the oldest first, as lines of JSON or as CSV.
    #[command(after_help = "\
Examples:
  foreshadow audit export --since 24h --service shop
  foreshadow audit export --since 2026-11-01T00:00:00Z --format csv > november.csv")]
    Export(ExportArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    state: StateDir,
    /// File of a key that hashes were made with; once for each key there was. That of the
    /// configuration goes without saying.
    #[arg(long, value_name = "FILE")]
    key_file: Vec<PathBuf>,
    /// Number and hash of an entry that must be there, as the log, an export or the API told them.
    #[arg(long, value_name = "SEQ:HASH", value_parser = head)]
    expect_head: Vec<Head>,
    /// Entries up to this one may be without a key, where the key came later. Without this none may, once
    /// a key is given: whoever can write the file could have put them there.
    #[arg(long, value_name = "SEQ")]
    keyless_until: Option<u64>,
    /// The entry `audit.replaced` of this number is known: the record before it is gone, and why is clear.
    /// Once for each. Without this such an entry means that the record is not whole.
    #[arg(long, value_name = "SEQ")]
    replaced_at: Vec<u64>,
    /// Print the outcome as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    state: StateDir,
    /// Only at or after this time: 2026-11-21T10:00:00Z, Unix milliseconds, or 24h for so long ago.
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<u64>,
    /// Only before this time.
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<u64>,
    /// Only of this service.
    #[arg(long)]
    service: Option<String>,
    /// Only this action, or all that begin with it, as `instance` does for `instance.thaw`.
    #[arg(long)]
    action: Option<String>,
    /// Only by this token or law.
    #[arg(long)]
    actor: Option<String>,
    /// The form of the lines.
    #[arg(long, value_enum, default_value_t = Format::Json)]
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// One JSON object per line.
    Json,
    /// A line of names, then one line per entry.
    Csv,
}

/// Does what is asked.
///
/// # Errors
/// When the record cannot be read.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    match args {
        Args::Verify(args) => check(args),
        Args::Export(args) => export(args),
    }
}

/// Where the record is, and the key that the configuration names.
fn place(state: &StateDir) -> anyhow::Result<(PathBuf, Option<AuditKey>)> {
    let Some(file) = state.config.as_ref().filter(|_| state.state_dir.is_none()) else {
        let default = || PathBuf::from(foreshadow_config::DEFAULT_STATE_DIR);
        return Ok((state.state_dir.clone().unwrap_or_else(default).join(AUDIT_DB), None));
    };
    let config = foreshadow_config::load(file)
        .map_err(|errors| anyhow::anyhow!("{} is not good:\n{errors}", file.display()))?;
    Ok((config.state_dir.join(AUDIT_DB), config.audit.key))
}

fn check(args: &VerifyArgs) -> anyhow::Result<ExitCode> {
    let (path, configured) = place(&args.state)?;
    let given = args.key_file.iter().map(|file| {
        AuditKey::read(file)
            .map_err(|why| anyhow::anyhow!("the key file {}, {why}", file.display()))
    });
    let keys = given.chain(configured.map(Ok)).collect::<anyhow::Result<Vec<_>>>()?;
    let keys: Vec<Key> = keys.iter().map(|key| Key::new(key.secret.expose())).collect();
    // Read before the record is: what a node writes meanwhile is newer.
    let kept = kept_head(&path.with_file_name(STATE_DB)).filter(|head| head.seq > 0);
    let heads: Vec<Head> = args.expect_head.iter().cloned().chain(kept).collect();
    let outcome = verify(&open_read_only(&path)?, &keys, &heads)
        .with_context(|| format!("{} cannot be read to its end", path.display()))?
        .and_then(|good| if keys.is_empty() { Ok(good) } else { keyed(good, args.keyless_until) })
        .and_then(|good| unreplaced(good, &args.replaced_at));
    let mut out = crate::out::stdout();
    match &outcome {
        Ok(good) if args.json => writeln!(out, "{}", as_json(good))?,
        Ok(good) => tell(&mut out, good, &path)?,
        Err(broken) if args.json => {
            let told =
                serde_json::json!({ "whole": false, "seq": broken.seq, "what": broken.what });
            writeln!(out, "{told}")?;
        }
        Err(broken) => writeln!(out, "{}: NOT WHOLE: {broken}", path.display())?,
    }
    Ok(if outcome.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Refuses entries that a key does not vouch for. They come first: behind one with a key those without
/// are refused anyway.
fn keyed(good: Verified, keyless_until: Option<u64>) -> Result<Verified, Broken> {
    let last = good.head.seq.saturating_sub(good.keyed);
    let Some((first, _)) = good.first.filter(|(first, _)| *first <= last) else { return Ok(good) };
    if keyless_until.is_some_and(|until| until >= last) {
        return Ok(good);
    }
    let what = format!(
        "written without a key, as are those up to entry {last}: whoever can write the file may have \
         put them there; if the key came after them, say so by --keyless-until {last}"
    );
    Err(Broken { seq: keyless_until.map_or(first, |until| first.max(until + 1)), what })
}

/// Refuses a record that says itself that it is not the one before it.
fn unreplaced(good: Verified, known: &[u64]) -> Result<Verified, Broken> {
    let mut said = good.replaced.iter();
    let Some((seq, cause)) = said.find(|(seq, _)| !known.contains(seq)) else { return Ok(good) };
    let what = format!("{cause}; if that is known, say so by --replaced-at {seq}");
    Err(Broken { seq: *seq, what })
}

fn as_json(good: &Verified) -> serde_json::Value {
    serde_json::json!({
        "whole": true,
        "entries": good.count,
        "first_seq": good.first.map(|(seq, _)| seq),
        "first_ms": good.first.map(|(_, at_ms)| at_ms),
        "last_ms": good.last_ms,
        "head": { "seq": good.head.seq, "hash": good.head.hash },
        "keyed": good.keyed,
        "lost": good.lost,
        "replaced": good.replaced.iter().map(|(seq, _)| seq).collect::<Vec<_>>(),
    })
}

fn tell(out: &mut impl Write, good: &Verified, path: &Path) -> std::io::Result<()> {
    let (first, first_ms) = good.first.unwrap_or_default();
    writeln!(out, "{}: whole: {} entries", path.display(), good.count)?;
    writeln!(out, "first  {first} at {}", utc(first_ms))?;
    writeln!(out, "last   {} at {}", good.head.seq, utc(good.last_ms))?;
    writeln!(out, "head   {}:{}", good.head.seq, good.head.hash)?;
    if first > 1 {
        writeln!(out, "       those before {first} were removed by retention, which is on record")?;
    }
    for (seq, cause) in &good.replaced {
        writeln!(out, "known  entry {seq}: {cause}")?;
    }
    if good.lost > 0 {
        writeln!(out, "lost   {} that the disk was too slow for, which is on record", good.lost)?;
    }
    match good.keyed {
        0 => writeln!(
            out,
            "key    none: who can write this file could have made all of it anew; hold the head \
             against one kept elsewhere"
        ),
        keyed if keyed == good.count => writeln!(out, "key    all"),
        keyed => writeln!(out, "key    the last {keyed}; those before were written without one"),
    }
}

fn export(args: &ExportArgs) -> anyhow::Result<ExitCode> {
    let (path, _) = place(&args.state)?;
    let query = Query {
        service: args.service.clone(),
        action: args.action.clone(),
        actor: args.actor.clone(),
        since_ms: args.since,
        until_ms: args.until,
        ..Query::default()
    };
    let db = open_read_only(&path)?;
    let mut out = std::io::BufWriter::new(crate::out::stdout());
    if args.format == Format::Csv {
        writeln!(out, "{CSV_NAMES}")?;
    }
    every(&db, &query, |link| {
        match args.format {
            Format::Json => writeln!(out, "{}", shown(link))?,
            Format::Csv => writeln!(out, "{}", csv(link))?,
        }
        Ok(())
    })?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

const CSV_NAMES: &str = "seq,at,tick,kind,actor,role,peer,action,service,instance,before,after,\
     outcome,cause,key,prev,hash";

fn csv(link: &Link) -> String {
    let numbers = [link.seq.to_string(), utc(link.at_ms), link.tick.to_string()];
    let fields = numbers.iter().map(String::as_str).chain(link.texts.all());
    let chain = [link.key.as_str(), &link.prev, &link.hash];
    fields.chain(chain).map(quoted).collect::<Vec<_>>().join(",")
}

/// A field of CSV (RFC 4180). One that a table of a person's would take for a formula is made a text.
fn quoted(field: &str) -> String {
    let field = if field.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        format!("'{field}")
    } else {
        field.to_owned()
    };
    if field.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field
    }
}

fn head(text: &str) -> Result<Head, String> {
    let form = || "write SEQ:HASH, such as 1042:9f86d0... with 64 hexadecimal digits".to_owned();
    let (seq, hash) = text.split_once(':').ok_or_else(form)?;
    let seq = seq.parse().map_err(|_| form())?;
    let is_hash = hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hash.then(|| Head { seq, hash: hash.to_ascii_lowercase() }).ok_or_else(form)
}

fn time(text: &str) -> Result<u64, String> {
    let since_1970 = |time: SystemTime| {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    };
    let ago = |ago: Duration| SystemTime::now().checked_sub(ago).map_or(0, since_1970);
    text.parse()
        .ok()
        .or_else(|| humantime::parse_rfc3339_weak(text).ok().map(since_1970))
        .or_else(|| humantime::parse_duration(text).ok().map(ago))
        .ok_or_else(|| {
            "write a time such as 2026-11-21T10:00:00Z, Unix milliseconds, or how long ago, such \
             as 24h"
                .to_owned()
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_one_column_each_and_no_formulas() {
        assert_eq!(quoted("plain"), "plain");
        assert_eq!(quoted("a,\"b\"\nc"), "\"a,\"\"b\"\"\nc\"");
        assert_eq!(quoted("=1+1"), "'=1+1");
    }

    #[test]
    fn heads_and_times_are_read_as_they_are_told() {
        let hash = "0f".repeat(32);
        assert_eq!(head(&format!("12:{hash}")), Ok(Head { seq: 12, hash: hash.clone() }));
        for wrong in ["12", "x:0f", "12:0f", &format!("12:{}zz", &hash[2..])] {
            assert!(head(wrong).is_err(), "{wrong}");
        }
        assert_eq!(time("1795303805042"), Ok(1_795_303_805_042));
        assert_eq!(time("2026-11-21T23:30:05.042Z"), Ok(1_795_303_805_042));
        assert!(time("24h").unwrap() > 1_700_000_000_000 && time("yesterday").is_err());
    }

    #[test]
    fn what_no_key_vouches_for_is_refused_unless_the_key_is_said_to_have_come_later() {
        let good = |keyed| Verified {
            count: 10,
            first: Some((3, 0)),
            head: Head { seq: 12, hash: String::new() },
            keyed,
            ..Verified::default()
        };
        assert!(keyed(good(10), None).is_ok());
        let made_anew = keyed(good(1), None).unwrap_err();
        assert_eq!(made_anew.seq, 3);
        assert!(made_anew.what.contains("--keyless-until 11"), "{made_anew}");
        assert_eq!(keyed(good(1), Some(10)).unwrap_err().seq, 11);
        assert!(keyed(good(1), Some(11)).is_ok());
    }
}
