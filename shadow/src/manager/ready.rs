//! Waiting until an instance answers.

use std::time::Duration;

use foreshadow_control::Tier;
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Inner, Order};
use crate::provider::{Handle, Provider};

const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// How a wait ended.
pub(super) enum Waited {
    Ready,
    /// It ended by itself meanwhile.
    Exited(String),
    /// The time was up; what the last check said.
    Late(String),
    /// A newer order made the wait pointless.
    Called,
}

/// What calls a wait off.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum CallOff {
    /// Only the order to end or leave the instance.
    AtTheEnd,
    /// Any new order.
    AtAnyOrder,
}

/// Repeats the readiness check, quickly at first, until it passes or `patience` is over.
pub(super) async fn wait_ready(
    inner: &Inner,
    provider: &dyn Provider,
    handle: &Handle,
    patience: Duration,
    orders: &mut watch::Receiver<Order>,
    call_off: CallOff,
) -> Waited {
    let start = Instant::now();
    let mut last = "the check has not finished".to_owned();
    let check = async {
        let mut pause = FIRST_PAUSE;
        loop {
            match inner.readiness.ready(&handle.service, handle.address).await {
                Ok(()) => return,
                Err(why) => last = why,
            }
            tokio::time::sleep(pause).await;
            pause = pause.mul_f64(1.5).min(LONGEST_PAUSE);
        }
    };
    let outcome = tokio::select! {
        biased;
        exit = provider.exited(handle) => Some(Waited::Exited(exit.0)),
        () = called(orders, call_off) => Some(Waited::Called),
        () = check => Some(Waited::Ready),
        () = tokio::time::sleep_until(start + patience) => None,
    };
    outcome.unwrap_or_else(|| {
        Waited::Late(format!(
            "not ready at {} within {} ms: {last}",
            handle.address,
            patience.as_millis()
        ))
    })
}

/// Resolves with the first order that calls it off.
pub(super) async fn called(orders: &mut watch::Receiver<Order>, call_off: CallOff) {
    let ends = |order: &Order| order.target == Tier::Cold || order.leave;
    match call_off {
        CallOff::AtTheEnd if orders.wait_for(ends).await.is_ok() => {}
        CallOff::AtAnyOrder if orders.changed().await.is_ok() => {}
        // The entry is gone, and with it whoever could give orders.
        _ => {}
    }
}
