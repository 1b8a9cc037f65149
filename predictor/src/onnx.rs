//! A network that someone trained, as an expert of the long horizons (feature `onnx`).
//!
//! **What it must look like.** One input of 32-bit floats, `[batch, steps]` or `[batch, steps, 1]`, and
//! one output with a value per step ahead and nothing else, such as `[batch, ahead]`. The batch is made
//! one; `steps` must be a number, at most [`OnnxExpert::MAX_STEPS`], as must `ahead` be. It sees the
//! newest `steps` values of the history, oldest first, in units of the series' typical value (so about
//! one) and without the effects of events; a shorter history is filled up in front with its mean. It
//! answers in the same units; an answer shorter than the horizon is repeated, so whole days, or weeks,
//! are of most use. One network serves every step length that it is asked for: train it on the one that
//! is fitted.
//!
//! **How to export one from PyTorch.**
//!
//! ```python
//! torch.onnx.export(model.eval(), (torch.ones(1, 168),), "model.onnx",
//!                   input_names=["past"], output_names=["ahead"], external_data=False)
//! ```
//!
//! `predictor/tests/onnx/models/make.py` trains and exports an LSTM and a transformer so.
//!
//! **Bounds.** A file has at most [`OnnxExpert::MAX_BYTES`], a call at most
//! [`OnnxExpert::MAX_OPERATIONS`], multiplications, divisions and values written, counted when it is
//! read: some tens of milliseconds on one core, and a fit asks about two dozen times. No operator may write
//! more values than that, not even one whose answer is always the same. An operator unknown to `tract` or
//! with a network inside (`If`, `Loop`, `Scan`; `LSTM` and `GRU` have none), a wrong shape, an answer that
//! is not finite or a panic inside is an error that says so, and the expert is left out. Weights are not
//! fetched from other files.
//!
//! Answers may differ in the last bits between machines, so the streaming forecaster, whose decisions
//! are replayed, does not use it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use std::sync::Arc;

use thiserror::Error;
use tract_onnx::Onnx;
use tract_onnx::pb::{ModelProto, NodeProto, TensorProto};
use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::Cost;
use tract_onnx::tract_core::ops::scan::{Scan, iteration_count};
use tract_onnx::tract_hir::infer::Factoid;
use tract_onnx::tract_hir::internal::InferenceNode;

use crate::long::Extra;

/// Operators named in an error.
const MOST_NAMED: usize = 8;

/// Why a network cannot be used.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum OnnxError {
    /// The file is too large.
    #[error(
        "the network has {bytes} bytes, more than {}; export it smaller",
        OnnxExpert::MAX_BYTES
    )]
    Large {
        /// Its size.
        bytes: usize,
    },
    /// It is no network, cut short, or broken.
    #[error("the network cannot be read: {0}; export it anew, in one file")]
    Read(String),
    /// It keeps weights in another file.
    #[error(
        "the network keeps its weights in another file, {file:?}; export it in one \
         (PyTorch: external_data=False)"
    )]
    Elsewhere {
        /// Which.
        file: String,
    },
    /// It needs what `tract` does not know.
    #[error("the network needs operators that are not known here: {}; export it without them",
        .0.join(", "))]
    Operators(Vec<String>),
    /// Its shapes do not fit together, or are not known beforehand.
    #[error("the network cannot be prepared: {0}; export it with fixed shapes")]
    Prepare(String),
    /// Inputs or outputs are not as they must be.
    #[error("{what} of the network is {found}; it must be {wanted}")]
    Shape {
        /// Which of them.
        what: &'static str,
        /// What it is.
        found: String,
        /// What it must be.
        wanted: &'static str,
    },
    /// It takes too long.
    #[error(
        "one call of the network takes {operations} operations, more than {}; make it smaller",
        OnnxExpert::MAX_OPERATIONS
    )]
    Slow {
        /// Multiplications, divisions and values written.
        operations: u64,
    },
    /// It failed at work.
    #[error("the network failed: {0}")]
    Run(String),
}

/// A network that was read and tried.
pub struct OnnxExpert {
    plan: Arc<TypedRunnableModel>,
    input: Vec<usize>,
}

impl std::fmt::Debug for OnnxExpert {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OnnxExpert").field("input", &self.input).finish_non_exhaustive()
    }
}

impl OnnxExpert {
    /// Largest file.
    pub const MAX_BYTES: usize = 32 << 20;
    /// Most steps seen, and most foreseen: a week of minutes.
    pub const MAX_STEPS: usize = 10_080;
    /// Most multiplications, divisions and values written of one call.
    pub const MAX_OPERATIONS: u64 = 50_000_000;

    /// Reads a network from the bytes of an ONNX file and asks it once.
    ///
    /// # Errors
    ///
    /// [`OnnxError`] when it is not what the documentation of this module says.
    pub fn read(bytes: &[u8]) -> Result<Self, OnnxError> {
        if bytes.len() > Self::MAX_BYTES {
            return Err(OnnxError::Large { bytes: bytes.len() });
        }
        let expert = guarded(OnnxError::Read, || load(bytes))?;
        expert.run(&vec![1.0; expert.steps()])?;
        Ok(expert)
    }

    /// Steps that it sees.
    pub fn steps(&self) -> usize {
        self.input[1]
    }

    fn run(&self, past: &[f32]) -> Result<Vec<f64>, OnnxError> {
        guarded(OnnxError::Run, || {
            let failed = |error: TractError| OnnxError::Run(format!("{error:#}"));
            let input = Tensor::from_shape(&self.input, past).map_err(failed)?;
            let output = self.plan.run(tvec!(input.into())).map_err(failed)?;
            let ahead = output[0].try_as_plain_ram().and_then(|plain| plain.as_slice::<f32>());
            let ahead = ahead.map_err(failed)?;
            if let Some(at) = ahead.iter().position(|value| !value.is_finite()) {
                return Err(OnnxError::Run(format!("step {at} of its answer is {}", ahead[at])));
            }
            Ok(ahead.iter().map(|value| f64::from(*value)).collect())
        })
    }
}

impl Extra for OnnxExpert {
    fn ahead(&self, past: &[f64]) -> Result<Vec<f64>, String> {
        let mean = past.iter().sum::<f64>() / past.len().max(1) as f64;
        let newest = &past[past.len().saturating_sub(self.steps())..];
        let filled = std::iter::repeat_n(mean, self.steps() - newest.len());
        let seen: Vec<f32> = filled.chain(newest.iter().copied()).map(|v| v as f32).collect();
        self.run(&seen).map_err(|error| error.to_string())
    }
}

/// A panic inside the engine is an error like any other.
fn guarded<T>(
    error: fn(String) -> OnnxError,
    work: impl FnOnce() -> Result<T, OnnxError>,
) -> Result<T, OnnxError> {
    let panicked = |_| Err(error("it made the engine panic".to_owned()));
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(panicked)
}

fn load(bytes: &[u8]) -> Result<OnnxExpert, OnnxError> {
    let unreadable = |error: TractError| OnnxError::Read(format!("{error:#}"));
    let unprepared = |error: TractError| OnnxError::Prepare(format!("{error:#}"));
    let framework = tract_onnx::onnx();
    let file = framework.proto_model_for_read(&mut &*bytes).map_err(unreadable)?;
    check_file(&framework, &file)?;
    let model = framework.model_for_proto_model(&file).map_err(unreadable)?;
    let ports = (model.inputs.len(), model.outputs.len());
    if ports != (1, 1) {
        return Err(OnnxError::Shape {
            what: "the number of inputs and outputs",
            found: format!("{} and {}", ports.0, ports.1),
            wanted: "one of each",
        });
    }
    let input = input_shape(&model)?;
    let fact = InferenceFact::dt_shape(f32::datum_type(), &input);
    let model = model.with_input_fact(0, fact).map_err(unprepared)?;
    let written = written(model.clone()).map_err(unprepared)?;
    if written > OnnxExpert::MAX_OPERATIONS {
        return Err(OnnxError::Slow { operations: written });
    }
    let typed = model.into_typed();
    let typed = typed.and_then(|model| model.into_decluttered()).map_err(unprepared)?;
    check_output(&typed)?;
    let operations = operations(&typed)?;
    if operations > OnnxExpert::MAX_OPERATIONS {
        return Err(OnnxError::Slow { operations });
    }
    let plan = typed.into_optimized().and_then(|model| model.into_runnable());
    Ok(OnnxExpert { plan: plan.map_err(unprepared)?, input })
}

/// What is commonly wrong with a file, said in its own words rather than the engine's.
fn check_file(framework: &Onnx, file: &ModelProto) -> Result<(), OnnxError> {
    let Some(graph) = &file.graph else {
        return Err(OnnxError::Read("it holds no network".to_owned()));
    };
    let is_elsewhere = |tensor: &&TensorProto| !tensor.external_data.is_empty();
    if let Some(tensor) = graph.initializer.iter().find(is_elsewhere) {
        let location = tensor.external_data.iter().find(|entry| entry.key == "location");
        let file = location.map_or_else(String::new, |entry| entry.value.clone());
        return Err(OnnxError::Elsewhere { file });
    }
    let own: Vec<&str> =
        file.functions.iter().filter_map(|function| function.name.as_deref()).collect();
    let is_unknown = |operator: &&str| {
        !framework.op_register.0.contains_key(*operator) && !own.contains(operator)
    };
    let operators = graph.node.iter().map(|node| node.op_type.as_str()).filter(is_unknown);
    let mut unknown: Vec<String> = operators.map(str::to_owned).collect();
    // What is in there cannot be measured before the engine works it out.
    let inner = file.functions.iter().flat_map(|function| &function.node);
    let has_graph =
        |node: &&NodeProto| node.attribute.iter().any(|a| a.g.is_some() || !a.graphs.is_empty());
    let holding = graph.node.iter().chain(inner).filter(has_graph);
    unknown.extend(holding.map(|node| format!("{} with a network inside", node.op_type)));
    unknown.sort_unstable();
    unknown.dedup();
    unknown.truncate(MOST_NAMED);
    if unknown.is_empty() { Ok(()) } else { Err(OnnxError::Operators(unknown)) }
}

/// The shape to ask with: the batch is one.
fn input_shape(model: &InferenceModel) -> Result<Vec<usize>, OnnxError> {
    let unreadable = |error: TractError| OnnxError::Read(format!("{error:#}"));
    let fact = model.input_fact(0).map_err(unreadable)?;
    let wrong = || OnnxError::Shape {
        what: "the input",
        found: format!("{fact:?}"),
        wanted: "[batch, steps] or [batch, steps, 1] with at most 10080 steps, of 32-bit floats",
    };
    let dims = fact
        .shape
        .dims()
        .map(|dim| dim.concretize().and_then(|dim| usize::try_from(dim.to_i64().ok()?).ok()));
    let mut dims: Vec<Option<usize>> = dims.collect();
    if let Some(batch) = dims.first_mut() {
        *batch = Some(1);
    }
    let float = fact.datum_type.concretize().is_none_or(|kind| kind == f32::datum_type());
    let dims: Vec<usize> = dims.into_iter().collect::<Option<_>>().ok_or_else(wrong)?;
    match dims[..] {
        [_, steps] | [_, steps, 1] if float && (1..=OnnxExpert::MAX_STEPS).contains(&steps) => {
            Ok(dims)
        }
        _ => Err(wrong()),
    }
}

fn check_output(model: &TypedModel) -> Result<(), OnnxError> {
    let fact = model.output_fact(0).map_err(|error| OnnxError::Read(format!("{error:#}")))?;
    let shape = fact.shape.as_concrete();
    let fits = shape.is_some_and(|shape| {
        let steps = shape.iter().copied().max().unwrap_or(0);
        let others = shape.iter().filter(|length| **length != 1).count();
        others <= 1 && (1..=OnnxExpert::MAX_STEPS).contains(&steps)
    });
    if fits && fact.datum_type == f32::datum_type() {
        return Ok(());
    }
    Err(OnnxError::Shape {
        what: "the output",
        found: format!("{fact:?}"),
        wanted: "[batch, ahead] with at most 10080 steps ahead, of 32-bit floats",
    })
}

/// Values that all operators write, found before any is worked out: the engine works out what does not
/// depend on the input while it prepares a network, and keeps it, and a few bytes can say that this is
/// vast. What lies behind those that write too many is not looked at.
fn written(mut model: InferenceModel) -> TractResult<u64> {
    let mut written = 0_u64;
    // What no answer needs is worked out as well.
    let outlets = |node: &InferenceNode| {
        let id = node.id;
        (0..node.outputs.len()).map(move |slot| OutletId::new(id, slot))
    };
    model.outputs = model.nodes().iter().flat_map(outlets).collect();
    for id in model.eval_order()? {
        let node = model.node(id);
        let mut op = node.op.clone();
        let seen = op.observe_outlets(&model, node)?;
        let seen = seen.iter().map(|outlet| model.outlet_fact(*outlet).cloned());
        let seen: TVec<InferenceFact> = seen.collect::<TractResult<_>>()?;
        let (inputs, outputs) = model.node_facts(id)?;
        let shapes = op.infer_facts(inputs.clone(), outputs.clone(), seen.iter().collect())?.1;
        written = shapes.iter().map(volume).fold(written, u64::saturating_add);
        if written > OnnxExpert::MAX_OPERATIONS {
            break;
        }
        let found = op.infer(inputs, outputs, seen.iter().collect())?.1;
        for (slot, fact) in found.into_iter().enumerate() {
            model.set_outlet_fact(OutletId::new(id, slot), fact)?;
        }
    }
    Ok(written)
}

/// Values of a tensor; zero while its shape is not known.
fn volume(fact: &InferenceFact) -> u64 {
    let Some(shape) = fact.shape.concretize() else { return 0 };
    let length = |dim: &TDim| dim.to_i64().ok().and_then(|dim| u64::try_from(dim).ok());
    shape
        .iter()
        .try_fold(1_u64, |volume, dim| Some(volume.saturating_mul(length(dim)?)))
        .unwrap_or(0)
}

/// Multiplications, divisions and values written of one call; what is repeated, as recurrent layers are,
/// counts each time. A number that is not known may be any.
fn operations(model: &TypedModel) -> Result<u64, OnnxError> {
    let unreadable = |error: TractError| OnnxError::Read(format!("{error:#}"));
    let known = |count: Option<TDim>| {
        let count = count.and_then(|count| count.to_i64().ok());
        count.and_then(|count| u64::try_from(count).ok()).unwrap_or(u64::MAX)
    };
    let mut sum = 0_u64;
    for node in model.nodes() {
        let facts = model.node_input_facts(node.id).map_err(unreadable)?;
        if let Some(scan) = node.op_as::<Scan>() {
            let times = known(iteration_count(&scan.input_mapping, &facts));
            sum = sum.saturating_add(times.saturating_mul(operations(&scan.body)?));
            continue;
        }
        for output in &node.outputs {
            sum = sum.saturating_add(known(Some(output.fact.shape.volume())));
        }
        for (cost, count) in node.op.cost(&facts).map_err(unreadable)? {
            if matches!(cost, Cost::FMA(_) | Cost::Div(_)) {
                sum = sum.saturating_add(known(Some(count)));
            }
        }
    }
    Ok(sum)
}
