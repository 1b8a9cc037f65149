//! One schedule: a time of troubles, orders, reloads and crashes, then calm, in which everything must
//! come in order by itself.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use foreshadow_control::{Action, Mode, PlaceName, Tier};

use super::life::Life;
use super::nature::{Nature, TICK_MS};
use super::order::disorder;
use super::random::Random;
use super::seams::{Link, locked};
use super::weather::Weather;
use super::world::{LATEST_MS, Point, World};
use crate::registry::Registry;

/// In calm everything is in order again within this.
pub(super) const CALM_MS: u64 = 180_000;
/// And stays so.
const STAYS_MS: u64 = 30_000;

/// What a schedule came to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub(super) lives: u64,
    pub(super) crashes: u64,
    pub(super) made: u64,
    pub(super) orders: u64,
    /// Until everything was in order.
    pub(super) calm_ms: u64,
}

/// How a life ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// At this time, whatever is under way.
    Crash(u64),
    /// At the so manieth of these.
    Strike(Point, u32),
    /// In good order at this time.
    Stop(u64),
}

pub(super) struct Schedule<'a> {
    dir: &'a Path,
    world: Arc<Mutex<World>>,
    natures: Vec<Nature>,
    /// When the calm begins.
    calm_ms: u64,
    ends: Vec<End>,
    most: u32,
    tally: Tally,
}

/// Runs the schedule of that seed; the error is what went wrong, with all that led to it.
pub(super) fn run(seed: u64, dir: &Path) -> Result<(Tally, String), String> {
    let mut random = Random::seeded(seed);
    let calm_ms = random.between(20_000, 50_000);
    let weather = Weather::drawn(&mut random, calm_ms);
    let mut natures = vec![Nature::drawn("shop", &mut random)];
    if random.chance(0.5) {
        natures.push(Nature::drawn("press", &mut random));
    }
    let many = random.between(0, 3);
    let mut ends: Vec<End> = (0..many).map(|_| End::drawn(&mut random, calm_ms)).collect();
    ends.sort_by_key(|end| match end {
        End::Crash(at) | End::Stop(at) => *at,
        End::Strike(..) => 0,
    });
    let text = format!("{natures:#?}\nlives end by {ends:?}, calm from {calm_ms} ms on\n{weather}");
    let world = Arc::new(Mutex::new(World::new(random, weather)));
    let most = natures.iter().map(|nature| nature.pool.max).sum();
    let tally = Tally::default();
    let mut schedule =
        Schedule { dir, world: Arc::clone(&world), natures, calm_ms, ends, most, tally };
    let done = schedule.play();
    let world = locked(&world);
    let trace = world.trace().replace(&dir.display().to_string(), "STATE_DIR");
    let wrong = done.err().or_else(|| world.violations.first().cloned());
    match wrong {
        None => Ok((schedule.tally, trace)),
        Some(wrong) => Err(format!("{wrong}\n\n{text}\n{trace}")),
    }
}

impl End {
    fn drawn(random: &mut Random, calm_ms: u64) -> Self {
        let nth = |random: &mut Random, most| u32::try_from(random.between(1, most)).unwrap_or(1);
        match random.between(0, 6) {
            0 | 1 => Self::Crash(random.between(100, calm_ms - 1)),
            2 => Self::Stop(random.between(100, calm_ms - 1)),
            3 => Self::Strike(Point::BeforeAsking, nth(random, 60)),
            4 => Self::Strike(Point::AfterTheAnswer, nth(random, 60)),
            5 => Self::Strike(Point::BeforeTheRegistry, nth(random, 40)),
            _ => Self::Strike(Point::AfterTheRegistry, nth(random, 40)),
        }
    }
}

impl Schedule<'_> {
    fn play(&mut self) -> Result<(), String> {
        let ends = std::mem::take(&mut self.ends);
        for end in ends {
            if locked(&self.world).now_ms >= self.calm_ms {
                break;
            }
            self.live(|schedule, link| Box::pin(schedule.troubled(link, Some(end))))?;
            let mut world = locked(&self.world);
            world.set_fuse(None);
            let away_ms = world.random.between(0, 5_000);
            let now_ms = world.now_ms + away_ms;
            world.advance(now_ms);
        }
        self.live(|schedule, link| Box::pin(schedule.until_calm(link)))?;
        // Whatever a start left for a later one: after it nothing may be left of it.
        self.live(|schedule, link| Box::pin(schedule.once_more(link)))?;
        let world = locked(&self.world);
        self.tally.made = world.counts.made;
        self.tally.orders = world.counts.creates + world.counts.destroys;
        Ok(())
    }

    /// A runtime that is dropped at the end with everything on it, as a process is.
    fn live(
        &mut self,
        work: impl for<'b> FnOnce(
            &'b mut Self,
            Arc<Link>,
        )
            -> std::pin::Pin<Box<dyn Future<Output = Result<(), String>> + 'b>>,
    ) -> Result<(), String> {
        self.tally.lives += 1;
        locked(&self.world).note(format!("life {} begins", self.tally.lives));
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().start_paused(true).build();
        let runtime = runtime.expect("threads and descriptors are left");
        runtime.block_on(async {
            let link = Link::new(&self.world);
            let work = work(self, Arc::clone(&link));
            tokio::select! {
                biased;
                () = link.struck.notified() => Ok(()),
                done = work => done,
            }
        })
    }

    /// Starts, as often as it takes: whoever watches over a Foreshadow starts it again.
    async fn start(&self, link: &Arc<Link>) -> Result<Life, String> {
        loop {
            match Life::start(self.dir, Arc::clone(link), &self.natures).await {
                Ok(life) => return Ok(life),
                Err(error) if link.world().now_ms >= self.calm_ms => {
                    return Err(format!("it does not start: {error}"));
                }
                Err(error) => link.world().note(format!("it does not start: {error}")),
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// Troubles until the life ends, or until the calm.
    async fn troubled(&mut self, link: Arc<Link>, end: Option<End>) -> Result<(), String> {
        if let Some(End::Strike(point, nth)) = end {
            self.tally.crashes += 1;
            link.world().set_fuse(Some((point, nth)));
        }
        let mut life = self.start(&link).await?;
        self.trouble(&mut life, end).await
    }

    async fn trouble(&mut self, life: &mut Life, end: Option<End>) -> Result<(), String> {
        loop {
            let now_ms = life.link.world().now_ms;
            match end {
                Some(End::Crash(at_ms)) if now_ms >= at_ms => {
                    self.tally.crashes += 1;
                    life.link.world().note("crash");
                    return Ok(());
                }
                Some(End::Stop(at_ms)) if now_ms >= at_ms => {
                    life.link.world().note("stop");
                    life.manager.shutdown().await;
                    return Ok(());
                }
                _ if now_ms >= self.calm_ms => return Ok(()),
                _ => {}
            }
            self.meddle(life);
            life.tick(&self.natures).await;
            self.bounded(life)?;
        }
    }

    /// What demand and operators do in a tick.
    fn meddle(&mut self, life: &mut Life) {
        let mut world = life.link.world();
        let random = &mut world.random;
        for nature in &self.natures {
            if random.chance(0.1) {
                let rps = *random.pick(&[0.0, 20.0, 120.0, 250.0, 400.0, 2_000.0]);
                life.demand_rps.insert(nature.name, rps);
            }
            if random.chance(0.02) {
                life.activate.insert(nature.name, 1);
            }
        }
        if random.chance(0.02) {
            life.mode = *random.pick(&[Mode::Observe, Mode::Advise, Mode::Act, Mode::Act]);
        }
        let (order, reload) = (random.chance(0.05), random.chance(0.03));
        drop(world);
        if order {
            self.order_by_hand(life);
        }
        if reload {
            self.reload(life);
        }
    }

    fn order_by_hand(&self, life: &Life) {
        let shadows = life.manager.snapshot();
        let mut world = life.link.world();
        let Some(one) = (!shadows.is_empty()).then(|| world.random.pick(&shadows)) else { return };
        let instance = one.id;
        let tier = *world.random.pick(&Tier::ALL);
        let action = match world.random.between(0, 2) {
            0 => Action::Destroy { instance },
            1 => Action::Move { instance, tier },
            _ => Action::Create { tier, place: PlaceName::default() },
        };
        world.note(format!("by hand: {action:?}"));
        drop(world);
        life.manager.apply(&one.service, &[action]);
    }

    fn reload(&mut self, life: &mut Life) {
        let which = {
            let mut world = life.link.world();
            let nature = world.random.between(0, self.natures.len() as u64 - 1) as usize;
            let nature = &mut self.natures[nature];
            match world.random.between(0, 3) {
                0 => nature.version += 1,
                1 => nature.pool.max = (nature.kept() + 1).max(nature.pool.max.saturating_sub(1)),
                2 if nature.name != "shop" => nature.present = !nature.present,
                _ => nature.stop_timeout = Duration::from_secs(world.random.between(1, 4)),
            }
            let text = format!("reload: {} {}, {:?}", nature.name, nature.present, nature.pool);
            world.note(text.clone());
            text
        };
        life.reconfigure(&self.natures);
        tracing::debug!(which, "reloaded");
    }

    /// What must be so at any time.
    fn bounded(&self, life: &Life) -> Result<(), String> {
        let world = life.link.world();
        let running = world.running().count();
        // Each pool, as many again that were lost, and what may be left behind of each service.
        let most = self.most as usize * 2 + self.natures.len() * 5;
        if running > most {
            return Err(format!("doubled: {running} run, at most {most} may"));
        }
        Ok(())
    }

    async fn until_calm(&mut self, link: Arc<Link>) -> Result<(), String> {
        let mut life = self.start(&link).await?;
        self.trouble(&mut life, None).await?;
        link.world().note("calm");
        for nature in &mut self.natures {
            nature.present = true;
        }
        life.reconfigure(&self.natures);
        life.mode = Mode::Act;
        life.demand_rps.clear();
        self.tally.calm_ms = self.in_order(&mut life).await?;
        // What was ordered before may come about until then.
        for _ in 0..LATEST_MS / TICK_MS {
            life.tick(&self.natures).await;
        }
        self.in_order(&mut life).await?;
        let orders = |life: &Life| {
            let world = life.link.world();
            world.counts.creates + world.counts.destroys
        };
        let before = orders(&life);
        for _ in 0..STAYS_MS / TICK_MS {
            life.tick(&self.natures).await;
        }
        let after = orders(&life);
        // A forecast may be wrong once: one more, and back.
        let few = 2 * self.natures.len() as u64;
        if after - before > few {
            let orders = after - before;
            return Err(format!("no rest: {orders} orders to make and to end in calm"));
        }
        let by_stop = link.world().random.chance(0.5);
        if by_stop {
            life.manager.shutdown().await;
        }
        Ok(())
    }

    /// Waits until everything is in order, for some ticks in a row; returns how long that took.
    async fn in_order(&self, life: &mut Life) -> Result<u64, String> {
        let begun_ms = life.link.world().now_ms;
        let mut good = 0;
        loop {
            life.tick(&self.natures).await;
            let now_ms = life.link.world().now_ms;
            let wrong = disorder(life, &self.natures);
            good = if wrong.is_none() { good + 1 } else { 0 };
            if good >= 6 {
                return Ok(now_ms - begun_ms);
            }
            if let Some(wrong) = wrong.filter(|_| now_ms - begun_ms > CALM_MS) {
                return Err(format!("after {} s of calm: {wrong}", CALM_MS / 1_000));
            }
        }
    }

    /// A start in the calm: what it takes over or ends, and that the registry is right.
    async fn once_more(&mut self, link: Arc<Link>) -> Result<(), String> {
        let mut life = self.start(&link).await?;
        self.in_order(&mut life).await?;
        let known: Vec<u64> = life.manager.snapshot().iter().map(|one| one.id.0).collect();
        let registry: &Registry = &life.manager.inner.registry;
        registry.flush().await.map_err(|error| error.to_string())?;
        let rows = registry.rows().await.map_err(|error| error.to_string())?;
        let rows: Vec<u64> = rows.iter().map(|row| row.id.0).collect();
        if rows != known {
            return Err(format!("forgotten: on record are {rows:?}, known are {known:?}"));
        }
        Ok(())
    }
}
