//! The world: machines that were made, orders that are under way, and what becomes of them whether or
//! not anybody still waits for an answer.

use std::collections::{BTreeMap, VecDeque};

use foreshadow_control::InstanceId;
use serde_json::{Value, json};

use super::random::Random;
use super::weather::{Trouble, Weather};
use crate::error::Cause;
use crate::remote::{Operation, Request};

/// Lines of the trace that are kept.
const TRACE: usize = 400;

/// What nobody waits for any more is carried out within this.
pub(super) const LATEST_MS: u64 = 20_000;

/// What an order came to.
pub(super) type Outcome = Result<Value, (Cause, String)>;

/// One that was made and has not been ended on purpose.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    pub(super) service: String,
    pub(super) port: u16,
    pub(super) frozen: bool,
    /// An order that nobody waits for any more froze or thawed it since it was last told to.
    pub(super) disturbed: bool,
    ready_from_ms: u64,
    /// How it ended by itself.
    ended: Option<String>,
}

impl Machine {
    pub(super) fn runs(&self) -> bool {
        self.ended.is_none()
    }
}

/// How far an order has come.
struct Deed {
    ticket: u64,
    operation: Operation,
    request: Request,
    /// Whether anybody will be told.
    told: bool,
}

/// Where the manager is struck down: so many of these from now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Point {
    BeforeAsking,
    AfterTheAnswer,
    BeforeTheRegistry,
    AfterTheRegistry,
}

/// How long an answer takes; none never comes.
pub(super) struct Ticket {
    pub(super) number: u64,
    pub(super) answer_in_ms: Option<u64>,
}

/// What was counted over a schedule.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) creates: u64,
    pub(super) destroys: u64,
    pub(super) made: u64,
    pub(super) strikes: u64,
}

pub(super) struct World {
    pub(super) now_ms: u64,
    pub(super) random: Random,
    pub(super) weather: Weather,
    pub(super) counts: Counts,
    pub(super) violations: Vec<String>,
    machines: BTreeMap<InstanceId, Machine>,
    /// Destroyed once is destroyed for all time; false where it was said only.
    dead: BTreeMap<InstanceId, bool>,
    deeds: BTreeMap<(u64, u64), Deed>,
    outcomes: BTreeMap<u64, Outcome>,
    tickets: u64,
    fuse: Option<(Point, u32)>,
    trace: VecDeque<(u64, String)>,
}

impl World {
    pub(super) fn new(random: Random, weather: Weather) -> Self {
        Self {
            now_ms: 0,
            random,
            weather,
            counts: Counts::default(),
            violations: Vec::new(),
            machines: BTreeMap::new(),
            dead: BTreeMap::new(),
            deeds: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            tickets: 0,
            fuse: None,
            trace: VecDeque::new(),
        }
    }

    pub(super) fn note(&mut self, what: impl Into<String>) {
        if self.trace.len() == TRACE {
            self.trace.pop_front();
        }
        self.trace.push_back((self.now_ms, what.into()));
    }

    pub(super) fn trace(&self) -> String {
        let line = |(at, what): &(u64, String)| format!("{:>9.3} s  {what}\n", *at as f64 / 1e3);
        self.trace.iter().map(line).collect()
    }

    pub(super) fn violated(&mut self, what: String) {
        self.note(format!("VIOLATED: {what}"));
        self.violations.push(what);
    }

    pub(super) fn has(&self, trouble: Trouble) -> bool {
        self.weather.has(trouble, self.now_ms)
    }

    /// Machines that run, ordered.
    pub(super) fn running(&self) -> impl Iterator<Item = (InstanceId, &Machine)> {
        self.machines.iter().filter(|(_, machine)| machine.runs()).map(|(id, m)| (*id, m))
    }

    /// Whether what listens there answers.
    pub(super) fn answers(&self, port: u16) -> Result<(), String> {
        let found = self.machines.values().find(|machine| machine.port == port);
        match found {
            _ if self.has(Trouble::LiesOfReadiness) => Ok(()),
            None => Err("connection refused".to_owned()),
            Some(machine) if !machine.runs() => Err("connection refused".to_owned()),
            Some(machine) if machine.frozen => Err("no answer".to_owned()),
            Some(machine) if self.now_ms < machine.ready_from_ms => Err("starting".to_owned()),
            Some(_) => Ok(()),
        }
    }

    pub(super) fn set_fuse(&mut self, fuse: Option<(Point, u32)>) {
        self.fuse = fuse;
    }

    /// Whether the manager is struck down here and now.
    pub(super) fn strikes(&mut self, point: Point) -> bool {
        match &mut self.fuse {
            Some((at, left)) if *at == point => {
                *left = left.saturating_sub(1);
                let strikes = *left == 0;
                if strikes {
                    self.fuse = None;
                    self.counts.strikes += 1;
                    self.note(format!("the manager is struck down: {point:?}"));
                }
                strikes
            }
            _ => false,
        }
    }

    /// Lets time pass: what is under way is carried out.
    pub(super) fn advance(&mut self, now_ms: u64) {
        while let Some(entry) = self.deeds.first_entry().filter(|e| e.key().0 <= now_ms) {
            let ((at_ms, _), deed) = entry.remove_entry();
            self.now_ms = self.now_ms.max(at_ms);
            let outcome = self.carry_out(&deed);
            if deed.told {
                self.outcomes.insert(deed.ticket, outcome);
            }
        }
        self.now_ms = self.now_ms.max(now_ms);
    }

    /// Accidents of the machines themselves over a tick of `tick_ms`.
    pub(super) fn befall(&mut self, tick_ms: u64) {
        let of_a_tick = 0.15 * tick_ms as f64 / 1e3;
        let (vanishing, ending) = (self.has(Trouble::Vanishing), self.has(Trouble::Ending));
        let ids: Vec<InstanceId> = self.running().map(|(id, _)| id).collect();
        for id in ids {
            if vanishing && self.random.chance(of_a_tick) {
                self.machines.remove(&id);
                self.note(format!("{id} vanishes"));
            } else if ending && self.random.chance(of_a_tick) {
                self.end_by_itself(id, "out of memory");
            }
        }
    }

    pub(super) fn end_by_itself(&mut self, id: InstanceId, how: &str) {
        if let Some(machine) = self.machines.get_mut(&id) {
            machine.ended = Some(how.to_owned());
            self.note(format!("{id} ends by itself: {how}"));
        }
    }

    /// Takes an order; what it comes to happens by itself.
    pub(super) fn order(&mut self, operation: Operation, request: &Request) -> Ticket {
        match operation {
            Operation::Create => self.counts.creates += 1,
            Operation::Destroy => self.counts.destroys += 1,
            _ => {}
        }
        self.tickets += 1;
        let number = self.tickets;
        let usual = match operation {
            Operation::Create => self.random.between(20, 400),
            Operation::Destroy => self.random.between(5, 200),
            _ => self.random.between(1, 30),
        };
        let takes_ms = if self.has(Trouble::Slow) { usual * 20 } else { usual };
        let later = self.random.between(0, LATEST_MS);
        let (deed_in_ms, told, answer_in_ms) = match self.fate(operation) {
            Fate::Refused(cause) => {
                let said = (cause, "as the weather is".to_owned());
                self.outcomes.insert(number, Err(said));
                (None, false, Some(takes_ms))
            }
            Fate::Ignored => (None, false, None),
            Fate::DoneLater => (Some(later), false, None),
            Fate::AnswerLost => {
                self.outcomes.insert(number, Err((Cause::Unreachable, "broken off".to_owned())));
                (
                    Some(if later.is_multiple_of(2) { later } else { takes_ms }),
                    false,
                    Some(takes_ms),
                )
            }
            Fate::Done => (Some(self.random.between(0, takes_ms)), true, Some(takes_ms)),
        };
        if let Some(deed_in_ms) = deed_in_ms {
            let deed = Deed { ticket: number, operation, request: request.clone(), told };
            self.deeds.insert((self.now_ms + deed_in_ms, number), deed);
        }
        Ticket { number, answer_in_ms }
    }

    pub(super) fn outcome(&mut self, ticket: u64) -> Option<Outcome> {
        self.outcomes.remove(&ticket)
    }

    fn fate(&mut self, operation: Operation) -> Fate {
        const CAUSES: [Cause; 6] = [
            Cause::Quota,
            Cause::Denied,
            Cause::DiskFull,
            Cause::NoImage,
            Cause::Busy,
            Cause::Failed,
        ];
        if self.has(Trouble::Away) {
            return Fate::Refused(Cause::NotAsked);
        }
        if self.has(Trouble::Silent) {
            return Fate::Ignored;
        }
        if self.has(Trouble::Failing) && self.random.chance(0.5) {
            return Fate::Refused(*self.random.pick(&CAUSES));
        }
        if operation == Operation::Create
            && let Some(cause) = self.weather.refuses(self.now_ms)
        {
            return Fate::Refused(cause);
        }
        if self.has(Trouble::Hangs) && self.random.chance(0.7) {
            return if self.random.chance(0.5) { Fate::DoneLater } else { Fate::Ignored };
        }
        if self.has(Trouble::AnswersLost) && self.random.chance(0.5) {
            return Fate::AnswerLost;
        }
        Fate::Done
    }

    fn carry_out(&mut self, deed: &Deed) -> Outcome {
        let Deed { operation, request, told, .. } = deed;
        let name = request.instance.as_deref().unwrap_or("i0");
        let id = InstanceId(name.trim_start_matches('i').parse().expect("named by an id"));
        match operation {
            Operation::List => return Ok(self.list()),
            Operation::Create => return self.create(id, request),
            Operation::Destroy => return Ok(self.destroy(id)),
            _ => {}
        }
        let machine = self.machines.get_mut(&id).filter(|machine| machine.runs());
        let machine = machine.ok_or_else(|| (Cause::Failed, format!("there is no {id}")))?;
        if matches!(operation, Operation::Freeze | Operation::Thaw) {
            machine.frozen = *operation == Operation::Freeze;
            machine.disturbed = !told;
        }
        self.note(format!("{id}: {}", operation.word()));
        Ok(Value::Null)
    }

    fn create(&mut self, id: InstanceId, request: &Request) -> Outcome {
        if self.dead.contains_key(&id) {
            self.note(format!("{id} is not made: it was destroyed before"));
            return Err((Cause::Failed, format!("{id} was destroyed")));
        }
        let of = |machine: &Machine| Some(&machine.service) == request.service.as_ref();
        let running = self.running().filter(|(_, machine)| of(machine)).count();
        if self.has(Trouble::Quota) && running >= 1 {
            return Err((Cause::Quota, "1 of 1 instances exist".to_owned()));
        }
        let port = 10_000 + u16::try_from(id.0 % 50_000).unwrap_or(0);
        let answer = json!({ "instance": id.to_string(), "address": format!("127.0.0.1:{port}") });
        if self.has(Trouble::LiesOfMaking) {
            self.note(format!("{id} is said to be made"));
            return Ok(answer);
        }
        let starts_ms = self.random.between(10, 1_500);
        let deaf = self.has(Trouble::Deaf);
        let machine = Machine {
            service: request.service.clone().unwrap_or_default(),
            port,
            frozen: false,
            disturbed: false,
            ready_from_ms: if deaf { u64::MAX } else { self.now_ms + starts_ms },
            ended: None,
        };
        self.counts.made += 1;
        self.note(format!("{id} of {} is made", machine.service));
        if self.machines.insert(id, machine).is_some() {
            self.violated(format!("doubled: {id} is made twice"));
        }
        Ok(answer)
    }

    fn destroy(&mut self, id: InstanceId) -> Value {
        let lies = self.has(Trouble::LiesOfEnding) && self.machines.contains_key(&id);
        if lies {
            self.note(format!("{id} is said to have ended"));
            return Value::Null;
        }
        if self.machines.remove(&id).is_some() {
            self.note(format!("{id} is ended"));
        }
        self.dead.insert(id, true);
        Value::Null
    }

    fn list(&mut self) -> Value {
        let lies = self.has(Trouble::LiesOfWhatIsThere);
        let mut instances = Vec::new();
        for (id, machine) in &self.machines {
            if lies && self.random.chance(0.5) {
                continue;
            }
            let state = match (&machine.ended, machine.frozen) {
                (Some(_), _) => "ended",
                (None, true) => "frozen",
                (None, false) => "running",
            };
            instances.push(json!({
                "instance": id.to_string(), "service": machine.service, "state": state,
                "address": format!("127.0.0.1:{}", machine.port), "detail": machine.ended,
            }));
        }
        json!({ "instances": instances })
    }
}

/// What becomes of an order.
enum Fate {
    Done,
    Refused(Cause),
    Ignored,
    DoneLater,
    AnswerLost,
}
