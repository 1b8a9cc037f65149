//! One step of a provider after the other, timed.

use std::time::{Duration, Instant};

use anyhow::Context;
use foreshadow_control::{InstanceId, Tier};
use foreshadow_shadow::{CpuShare, CreateRequest, Provider};
use serde::Serialize;

use crate::front::{Front, PATIENCE, ready};
use crate::places::Place;
use crate::processes;
use crate::times::{Times, milliseconds};

/// Rests between freezing and thawing, so that an instance has come to its rest.
const REST: Duration = Duration::from_millis(20);
/// Share of a core at tier warm.
const WARM: CpuShare = CpuShare::Percent(20);
const GRACE: Duration = Duration::from_secs(5);

/// What the steps of one provider took. Absent what it cannot do.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Steps {
    /// From the order to make it to its first passed health check.
    pub(crate) create_to_ready: Option<Times>,
    /// The order to freeze it.
    pub(crate) freeze: Option<Times>,
    /// The order to thaw it alone.
    pub(crate) thaw: Option<Times>,
    /// From that order to the answer to a request that was sent through the proxy once the order
    /// had been carried out.
    pub(crate) thaw_to_first_answer: Option<Times>,
    /// A request through the proxy to an instance that is running, to compare the former with.
    pub(crate) answer: Option<Times>,
    /// From the orders to give it full size, and to let it be where serving ones are, to an answer
    /// through the proxy.
    pub(crate) warm_to_full: Option<Times>,
    /// From `kill -9` until the provider says that it ended.
    pub(crate) kill_to_exit_seen: Option<Times>,
    /// The order to end it.
    pub(crate) destroy: Option<Times>,
}

#[derive(Default)]
struct Samples {
    create: Vec<f64>,
    freeze: Vec<f64>,
    thaw: Vec<f64>,
    thaw_answer: Vec<f64>,
    answer: Vec<f64>,
    full: Vec<f64>,
    exit: Vec<f64>,
    destroy: Vec<f64>,
}

/// Makes `place.instances` instances one after the other and takes each through its steps.
pub(crate) async fn timed(place: &Place, front: &Front) -> anyhow::Result<Steps> {
    let mut samples = Samples::default();
    for nth in 0..place.instances {
        one(place, front, place.first_id + u64::from(nth), &mut samples)
            .await
            .with_context(|| format!("{}: instance {nth}", place.name))?;
    }
    Ok(Steps {
        create_to_ready: Times::of(samples.create),
        freeze: Times::of(samples.freeze),
        thaw: Times::of(samples.thaw),
        thaw_to_first_answer: Times::of(samples.thaw_answer),
        answer: Times::of(samples.answer),
        warm_to_full: Times::of(samples.full),
        kill_to_exit_seen: Times::of(samples.exit),
        destroy: Times::of(samples.destroy),
    })
}

async fn one(place: &Place, front: &Front, id: u64, samples: &mut Samples) -> anyhow::Result<()> {
    let provider: &dyn Provider = &*place.provider;
    let can = provider.capabilities();
    let request = CreateRequest {
        id: InstanceId(id),
        service: "shop".into(),
        tier: Tier::Shadow,
        from: None,
    };
    let begun = Instant::now();
    let handle = provider.create(&request).await?;
    // Whatever fails from here on, it must not be left behind.
    let outcome = async {
        ready(handle.address).await?;
        samples.create.push(milliseconds(begun));
        provider.set_activated(&handle, true).await?;
        front.lead_to(handle.id, handle.address)?;
        let mut client = front.client().await?;
        client.get("/").await?;
        for _ in 0..place.cycles {
            let begun = Instant::now();
            client.get("/").await?;
            samples.answer.push(milliseconds(begun));
            if can.freeze {
                let begun = Instant::now();
                provider.freeze(&handle).await?;
                samples.freeze.push(milliseconds(begun));
                tokio::time::sleep(REST).await;
                let begun = Instant::now();
                provider.thaw(&handle).await?;
                samples.thaw.push(milliseconds(begun));
                client.get("/").await?;
                samples.thaw_answer.push(milliseconds(begun));
            }
            if can.resize {
                provider.set_activated(&handle, false).await?;
                provider.set_share(&handle, WARM).await?;
                let begun = Instant::now();
                provider.set_share(&handle, CpuShare::Unlimited).await?;
                provider.set_activated(&handle, true).await?;
                client.get("/").await?;
                samples.full.push(milliseconds(begun));
            }
        }
        if place.kills {
            let exit = provider.exited(&handle);
            let begun = Instant::now();
            processes::kill(&place.mark(handle.id))?;
            tokio::time::timeout(PATIENCE, exit).await.context("its end is never seen")?;
            samples.exit.push(milliseconds(begun));
        }
        anyhow::Ok(())
    }
    .await;
    let begun = Instant::now();
    provider.destroy(&handle, GRACE).await?;
    if !place.kills {
        samples.destroy.push(milliseconds(begun));
    }
    outcome
}
