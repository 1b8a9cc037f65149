//! What takes from a score, as sentences, and what can be done about it.

use super::counts::Sums;
use super::wilson::{Share, share};
use super::{Factors, FitnessConcern, FitnessReason, Mirroring};

/// What takes less is not worth a sentence.
const WORTH_SAYING: f64 = 0.005;

/// All that takes from a score, dearest first; of equals, in the order of [`FitnessConcern`].
pub(super) fn reasons(sums: &Sums, factors: &Factors, mirroring: Mirroring) -> Vec<FitnessReason> {
    let mut all = vec![few_requests(sums, factors), few_compared(sums, factors, mirroring)];
    all.extend(disagreement(sums, factors));
    all.extend(uncopied(sums, factors));
    all.extend(clients(sums, factors));
    // That nothing was compared is worth saying however little the traffic leaves to win.
    let unmirrored = |what| what == FitnessConcern::FewCompared && sums.compared <= 0.0;
    all.retain(|reason| reason.cost >= WORTH_SAYING || unmirrored(reason.what));
    all.sort_by(|a, b| b.cost.total_cmp(&a.cost).then(a.what.cmp(&b.what)));
    all
}

/// The other factors' product at their bad ends: what a unit of one factor is worth. Where no copy
/// was compared all would be worth nothing, so the traffic is then judged by itself.
fn worth(sums: &Sums, factors: &Factors, without: usize) -> f64 {
    let unmeasured = |at: usize| at == 1 && sums.compared <= 0.0;
    let others = factors.all().into_iter().enumerate();
    others.filter(|(at, _)| *at != without && !unmeasured(*at)).map(|(_, f)| f.lower).product()
}

fn reason(what: FitnessConcern, cost: f64, text: String, advice: &str) -> FitnessReason {
    let advice = (!advice.is_empty()).then(|| advice.to_owned());
    FitnessReason { what, cost, text, advice }
}

/// What chance leaves open of the traffic's shares.
fn few_requests(sums: &Sums, factors: &Factors) -> FitnessReason {
    let doubt = |f: &Share| f.point - f.lower;
    let at = [0, 2, 3, 4];
    let all = factors.all();
    let cost = if sums.requests > 0.0 {
        at.iter().map(|&at| doubt(&all[at]) * worth(sums, factors, at)).sum()
    } else {
        1.0
    };
    let text = if sums.requests > 0.0 {
        format!(
            "only {} requests were seen lately, the fields of {} looked at: the shares may differ by chance",
            whole(sums.requests),
            whole(sums.looked_at)
        )
    } else {
        "no request was seen lately".to_owned()
    };
    reason(FitnessConcern::FewRequests, cost, text, "wait for more traffic")
}

fn few_compared(sums: &Sums, factors: &Factors, mirroring: Mirroring) -> FitnessReason {
    let agreement = factors.agreement;
    let worth = worth(sums, factors, 1);
    let (cost, text) = if sums.compared > 0.0 {
        let text = format!(
            "{} mirrored answers were compared: agreement may be as low as {}",
            whole(sums.compared),
            percent(agreement.lower)
        );
        ((agreement.point - agreement.lower) * worth, text)
    } else {
        (worth, "no mirrored answer was compared: nothing shows how a shadow answers".to_owned())
    };
    let advice = match mirroring {
        Mirroring::NoShadows => {
            "give the service shadows: copies go to those that are warm".to_owned()
        }
        Mirroring::Share(share) if share < 1.0 => format!(
            "keep a warm shadow in the pool, and raise shadows.mirror.share, now {}",
            percent(share.max(0.0))
        ),
        Mirroring::Share(_) => "keep a warm shadow in the pool".to_owned(),
    };
    reason(FitnessConcern::FewCompared, cost, text, &advice)
}

fn disagreement(sums: &Sums, factors: &Factors) -> Option<FitnessReason> {
    if sums.compared <= 0.0 {
        return None;
    }
    let differed = 1.0 - factors.agreement.point;
    let text = format!(
        "{} of {} mirrored answers differed in status class or did not come",
        percent(differed),
        whole(sums.compared)
    );
    let cost = differed * worth(sums, factors, 1);
    let advice = "compare the shadow's version, configuration and data with the primaries'; \
                  foreshadow explain --law verification says which shadows were refused";
    Some(reason(FitnessConcern::Disagreement, cost, text, advice))
}

/// Requests of which no copy is made.
fn uncopied(sums: &Sums, factors: &Factors) -> [FitnessReason; 4] {
    let worth = worth(sums, factors, 0);
    let copyable = percent(factors.copyable.point);
    let of = |count, trials| share(count, trials).point;
    let other = of(sums.other, sums.requests);
    let idempotent = of(sums.idempotent, sums.requests);
    let upgrades = of(sums.upgrades, sums.requests);
    let bodies = of(sums.safe_uncopied, sums.looked_at);
    [
        reason(
            FitnessConcern::OtherMethods,
            other * worth,
            format!(
                "{} of requests have a method such as POST: none of them is mirrored, so a shadow \
                 is verified on {copyable} of the traffic",
                percent(other)
            ),
            "test by other means how a new instance takes writes: mirroring cannot show it",
        ),
        reason(
            FitnessConcern::IdempotentMethods,
            idempotent * worth,
            format!(
                "{} of requests are PUT or DELETE: none of them is mirrored, though each may be \
                 sent again without harm",
                percent(idempotent)
            ),
            "test by other means how a new instance takes writes: mirroring cannot show it",
        ),
        reason(
            FitnessConcern::Upgrades,
            upgrades * worth,
            format!(
                "{} of requests ask for another protocol, such as WebSocket: what follows cannot \
                 be mirrored",
                percent(upgrades)
            ),
            "give such requests a service of their own, by a route",
        ),
        reason(
            FitnessConcern::SafeUncopied,
            bodies * worth,
            format!(
                "{} of requests are safe but have a body or ask for a stream of events: none of \
                 them is mirrored",
                percent(bodies)
            ),
            "give such requests a service of their own, by a route",
        ),
    ]
}

/// What instances may know of their clients.
fn clients(sums: &Sums, factors: &Factors) -> [FitnessReason; 3] {
    let of = |count: f64| share(count, sums.looked_at).point;
    let cost = |at: usize, factor: Share| (1.0 - factor.point) * worth(sums, factors, at);
    let (cookies, set, sessions) = (of(sums.cookies), of(sums.set_cookies), of(sums.sessions));
    let text = if sums.set_cookies > 0.0 {
        format!(
            "{} of answers set cookies and {} of requests carry one: sessions may live in the \
             instance",
            percent(set),
            percent(cookies)
        )
    } else {
        format!(
            "{} of requests carry cookies, and their answers are not for everybody: sessions may \
             live in the instance",
            percent(sessions)
        )
    };
    [
        reason(
            FitnessConcern::Sessions,
            cost(2, factors.sessions),
            text,
            "keep sessions outside of the instances, or in the cookie itself; mark answers that \
             are the same for everybody with Cache-Control: public",
        ),
        reason(
            FitnessConcern::Credentials,
            cost(3, factors.credentials),
            format!(
                "{} of requests carry credentials: copies carry them too, and answers depend on \
                 who asks",
                percent(of(sums.authorized))
            ),
            "see that shadows know the same clients and keys as the primaries",
        ),
        reason(
            FitnessConcern::VaryAny,
            cost(4, factors.vary),
            format!(
                "{} of answers say Vary: *, so that they depend on more than the request: \
                 agreement says less",
                percent(of(sums.vary_any))
            ),
            "name the request fields in Vary that answers depend on",
        ),
    ]
}

/// A share as a person writes it.
fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent <= 0.0 || (10.0..99.5).contains(&percent) || percent >= 100.0 {
        format!("{percent:.0} %")
    } else {
        format!("{percent:.1} %")
    }
}

fn whole(count: f64) -> String {
    format!("{count:.0}")
}

#[cfg(test)]
mod tests {
    use super::percent;

    #[test]
    fn shares_are_written_as_people_do() {
        for (share, text) in [
            (0.0, "0 %"),
            (0.004, "0.4 %"),
            (0.05, "5.0 %"),
            (0.38, "38 %"),
            (0.9971, "99.7 %"),
            (1.0, "100 %"),
        ] {
            assert_eq!(percent(share), text);
        }
    }
}
