//! `foreshadow fitness`: how safely services can be mirrored, and what speaks against it.

use std::io::Write;
use std::process::ExitCode;

use foreshadow_control::{Fitness, ServiceName};
use serde::Deserialize;
use serde_json::Value;

use crate::client::Admin;

/// Arguments of `foreshadow fitness`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only this service.
    service: Option<String>,
    #[command(flatten)]
    admin: Admin,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Deserialize)]
struct Listing {
    services: Vec<Value>,
}

#[derive(Deserialize)]
struct Assessed {
    service: ServiceName,
    #[serde(flatten)]
    fitness: Fitness,
}

/// Asks a running node and prints what it says.
///
/// # Errors
/// When the node does not answer or refuses, and when the output cannot be written.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut client = args.admin.client();
    let services = match &args.service {
        Some(service) => {
            let path = format!("/api/v1/services/{}/fitness", path_segment(service));
            vec![runtime.block_on(client.get::<Value>(&path))?]
        }
        None => runtime.block_on(client.get::<Listing>("/api/v1/fitness"))?.services,
    };
    let mut out = crate::out::stdout();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&services)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let services: Vec<Assessed> =
        services.into_iter().map(serde_json::from_value).collect::<Result<_, _>>()?;
    write!(out, "{}", table(&services))?;
    Ok(ExitCode::SUCCESS)
}

/// Percent-encoded but for unreserved characters (RFC 3986, section 2.3).
pub(crate) fn path_segment(name: &str) -> String {
    let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let encode = |byte: u8| match unreserved(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    name.bytes().map(encode).collect()
}

fn table(services: &[Assessed]) -> String {
    let names = services.iter().map(|s| s.service.as_str().len());
    let width = names.max().unwrap_or(0).max("SERVICE".len());
    let mut text = format!(
        "{:<width$}  VERDICT  SCORE  AT MOST  BY TRAFFIC  COPYABLE  AGREEMENT  SESSIONS  REQUESTS  COMPARED\n",
        "SERVICE"
    );
    for Assessed { service, fitness } in services {
        let shares = &fitness.shares;
        let agreement = shares.agreement.map_or_else(|| "-".to_owned(), percent);
        text += &format!(
            "{:<width$}  {:<7}  {:>5.2}  {:>7.2}  {:>10.2}  {:>8}  {agreement:>9}  {:>8}  {:>8.0}  {:>8.0}\n",
            service.as_str(),
            fitness.verdict.as_str(),
            fitness.score,
            fitness.at_most,
            fitness.by_traffic,
            percent(shares.copyable),
            percent(shares.sessions),
            fitness.evidence.requests,
            fitness.evidence.compared,
        );
        for reason in &fitness.reasons {
            text += &format!("  -{:.2}  {}\n", reason.cost, reason.text);
            if let Some(advice) = &reason.advice {
                text += &format!("         {advice}\n");
            }
        }
        for left_out in &fitness.not_measured {
            text += &format!("         not measured: {left_out}\n");
        }
    }
    text
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

#[cfg(test)]
mod tests {
    use foreshadow_control::{Mirroring, Workload};

    use super::*;

    #[test]
    fn names_are_taken_as_they_are() {
        assert_eq!(path_segment("shop-1.eu_west~a"), "shop-1.eu_west~a");
        assert_eq!(path_segment("a/b?c"), "a%2Fb%3Fc");
    }

    #[test]
    fn columns_stand_below_their_heads() {
        let fitness = Workload::default().assess(Mirroring::Share(0.05));
        let text = table(&[Assessed { service: "a-long-name".into(), fitness }]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0].len(), lines[1].len(), "{text}");
        assert!(lines[1].starts_with("a-long-name  unknown   0.00     1.00 "), "{text}");
        assert_eq!(lines[2], "  -1.00  no request was seen lately");
        assert_eq!(lines[3], "         wait for more traffic");
    }
}
