//! ONNX files of small networks, written by hand (the fields of `onnx.proto3`, version 8).

/// An operator: its type, its inputs, and what it writes.
type Operator = (&'static str, Vec<String>, String);

/// A network from `past` to `ahead`.
#[derive(Clone)]
pub(crate) struct Network {
    pub(crate) batch: Option<i64>,
    pub(crate) steps: Option<i64>,
    pub(crate) input_tail: Vec<i64>,
    /// The input has no batch.
    pub(crate) rank_one: bool,
    pub(crate) columns: i64,
    pub(crate) operators: Vec<Operator>,
    /// Matrices by name: rows, columns, weights row by row.
    pub(crate) matrices: Vec<(&'static str, i64, i64, Vec<f32>)>,
    /// Weights are said to be in a file of this name.
    pub(crate) elsewhere: Option<&'static str>,
}

/// The weight of each pair of row and column.
fn matrix(
    name: &'static str,
    rows: i64,
    columns: i64,
    weight: impl Fn(usize, usize) -> f32,
) -> (&'static str, i64, i64, Vec<f32>) {
    let pairs = (0..rows as usize).flat_map(|from| (0..columns as usize).map(move |to| (from, to)));
    (name, rows, columns, pairs.map(|(from, to)| weight(from, to)).collect())
}

impl Network {
    fn new(steps: i64, columns: i64, operators: &[(&'static str, &str, &str, &str)]) -> Self {
        let operator = |(kind, left, right, out): &(&'static str, &str, &str, &str)| {
            (*kind, vec![(*left).to_owned(), (*right).to_owned()], (*out).to_owned())
        };
        Self {
            batch: Some(1),
            steps: Some(steps),
            input_tail: vec![],
            rank_one: false,
            columns,
            operators: operators.iter().map(operator).collect(),
            matrices: vec![],
            elsewhere: None,
        }
    }

    /// `ahead = past W`.
    pub(crate) fn linear(rows: i64, columns: i64, weight: impl Fn(usize, usize) -> f32) -> Self {
        let mut network = Self::new(rows, columns, &[("MatMul", "past", "w", "ahead")]);
        network.matrices = vec![matrix("w", rows, columns, weight)];
        network
    }

    /// `W` so many times in a row, for which it must be square.
    pub(crate) fn repeated(self, times: usize) -> Self {
        let name = |nth: usize| match nth {
            0 => "past".to_owned(),
            nth if nth == times => "ahead".to_owned(),
            nth => format!("h{nth}"),
        };
        let operators =
            (0..times).map(|nth| ("MatMul", vec![name(nth), "w".to_owned()], name(nth + 1)));
        Self { operators: operators.collect(), ..self }
    }

    /// `1 + (past - 1) A * (past - 1) B` with the `k`-th step ahead made of those `lags` before it:
    /// the product of two swings about one.
    pub(crate) fn product(steps: i64, ahead: i64, lags: [usize; 2]) -> Self {
        let mut network = Self::new(
            steps,
            ahead,
            &[
                ("Sub", "past", "one", "swing"),
                ("MatMul", "swing", "a", "left"),
                ("MatMul", "swing", "b", "right"),
                ("Mul", "left", "right", "both"),
                ("Add", "both", "one", "ahead"),
            ],
        );
        let lagged = |lag: usize| {
            move |from: usize, to: usize| f32::from(u8::from(from + lag == steps as usize + to))
        };
        network.matrices = vec![
            matrix("a", steps, ahead, lagged(lags[0])),
            matrix("b", steps, ahead, lagged(lags[1])),
            matrix("one", 1, 1, |_, _| 1.0),
        ];
        network
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut graph = vec![];
        for (kind, inputs, out) in &self.operators {
            let inputs: Vec<u8> = inputs.iter().flat_map(|input| text(1, input)).collect();
            graph.extend(nested(1, &[inputs, text(2, out), text(4, kind)].concat()));
        }
        graph.extend(text(2, "small"));
        for (name, rows, columns, weights) in &self.matrices {
            let raw: Vec<u8> = weights.iter().flat_map(|weight| weight.to_le_bytes()).collect();
            let data = match self.elsewhere {
                None => nested(9, &raw),
                Some(file) => {
                    let entry = [text(1, "location"), text(2, file)].concat();
                    [nested(13, &entry), number(14, 1)].concat()
                }
            };
            let dims = [number(1, *rows), number(1, *columns), number(2, 1)].concat();
            graph.extend(nested(5, &[dims, text(8, name), data].concat()));
        }
        let first = if self.rank_one { vec![] } else { vec![self.batch] };
        let tail = self.input_tail.iter().map(|length| Some(*length));
        let input: Vec<_> = first.into_iter().chain([self.steps]).chain(tail).collect();
        graph.extend(nested(11, &value("past", &input)));
        graph.extend(nested(12, &value("ahead", &[self.batch, Some(self.columns)])));
        let opset = [text(1, ""), number(2, 13)].concat();
        [number(1, 8), nested(8, &opset), nested(7, &graph)].concat()
    }
}

/// A `ValueInfoProto` of 32-bit floats; dimensions that are none have a name.
fn value(name: &str, dims: &[Option<i64>]) -> Vec<u8> {
    let dim = |dim: &Option<i64>| match dim {
        Some(length) => nested(1, &number(1, *length)),
        None => nested(1, &text(2, "any")),
    };
    let shape: Vec<u8> = dims.iter().flat_map(dim).collect();
    let tensor = [number(1, 1), nested(2, &shape)].concat();
    [text(1, name), nested(2, &nested(1, &tensor))].concat()
}

fn number(field: u8, value: i64) -> Vec<u8> {
    let mut bytes = vec![field << 3];
    bytes.extend(varint(value as u64));
    bytes
}

fn text(field: u8, value: &str) -> Vec<u8> {
    nested(field, value.as_bytes())
}

fn nested(field: u8, value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![field << 3 | 2];
    bytes.extend(varint(value.len() as u64));
    bytes.extend(value);
    bytes
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = vec![];
    while value > 0x7f {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}
