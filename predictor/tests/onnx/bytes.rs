//! ONNX files of linear networks, written by hand (the fields of `onnx.proto3`, version 8).

/// `y = x W`, or that `times` in a row.
#[derive(Clone)]
pub(crate) struct Network {
    pub(crate) batch: Option<i64>,
    pub(crate) steps: Option<i64>,
    pub(crate) input_tail: Vec<i64>,
    /// The input has no batch.
    pub(crate) rank_one: bool,
    pub(crate) times: usize,
    pub(crate) rows: i64,
    pub(crate) columns: i64,
    pub(crate) weights: Vec<f32>,
}

impl Network {
    pub(crate) fn linear(rows: i64, columns: i64, weight: impl Fn(usize, usize) -> f32) -> Self {
        let all =
            (0..rows as usize).flat_map(|from| (0..columns as usize).map(move |to| (from, to)));
        Self {
            batch: Some(1),
            steps: Some(rows),
            input_tail: vec![],
            rank_one: false,
            times: 1,
            rows,
            columns,
            weights: all.map(|(from, to)| weight(from, to)).collect(),
        }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut graph = vec![];
        for nth in 0..self.times {
            let name = |nth: usize| if nth == 0 { "past".to_owned() } else { format!("h{nth}") };
            let out = if nth + 1 == self.times { "ahead".to_owned() } else { name(nth + 1) };
            let parts = [
                text(1, &name(nth)),
                text(1, "w"),
                text(2, &out),
                text(3, &format!("n{nth}")),
                text(4, "MatMul"),
            ];
            graph.extend(nested(1, &parts.concat()));
        }
        graph.extend(text(2, "linear"));
        let raw: Vec<u8> = self.weights.iter().flat_map(|weight| weight.to_le_bytes()).collect();
        let dims = [number(1, self.rows), number(1, self.columns), number(2, 1)].concat();
        graph.extend(nested(5, &[dims, text(8, "w"), nested(9, &raw)].concat()));
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
