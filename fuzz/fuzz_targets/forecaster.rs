//! Any calls with any values leave a forecast that is finite, not negative and ordered, in memory
//! that does not grow.
#![no_main]

use foreshadow_predictor::{Forecaster, SeriesSpec};
use libfuzzer_sys::fuzz_target;

/// Reads numbers off the input until it is used up.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn u8(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn u64(&mut self) -> Option<u64> {
        let (first, rest) = self.0.split_first_chunk::<8>()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*first))
    }

    fn f64(&mut self) -> Option<f64> {
        self.u64().map(f64::from_bits)
    }
}

fn spec(bytes: &mut Bytes<'_>) -> Option<SeriesSpec> {
    let few = |bytes: &mut Bytes<'_>| bytes.u8().map(|count| count % 6);
    let step_ms = bytes.u64()?;
    let horizons_ms = (0..few(bytes)?).map_while(|_| bytes.u64()).collect();
    let levels = (0..few(bytes)?).map_while(|_| bytes.f64()).collect();
    let seasons_ms = (0..few(bytes)?).map_while(|_| bytes.u64()).collect();
    Some(SeriesSpec { step_ms, horizons_ms, levels, seasons_ms })
}

fn call(forecaster: &mut Forecaster, bytes: &mut Bytes<'_>) -> Option<()> {
    match bytes.u8()? % 5 {
        0 => forecaster.observe(bytes.f64()?),
        1 => {
            let (value, times) = (bytes.f64()?, bytes.u8()?);
            (0..times).for_each(|_| forecaster.observe(value));
        }
        2 => forecaster.observe_gap(bytes.u64()?),
        3 => forecaster.observe_with(bytes.f64()?, &[bytes.f64()?, bytes.f64()?, bytes.f64()?]),
        _ => forecaster.shift_clock(bytes.u64()? as i64),
    }
    Some(())
}

fuzz_target!(|data: &[u8]| {
    let mut bytes = Bytes(data);
    let Some(spec) = spec(&mut bytes) else { return };
    let mut forecaster = Forecaster::with_regressors(spec, 2);
    let memory_bytes = forecaster.memory_bytes();
    while call(&mut forecaster, &mut bytes).is_some() {
        for horizon in &forecaster.forecast().horizons {
            assert!(horizon.mean.is_finite() && horizon.mean >= 0.0, "{horizon:?}");
            assert!(horizon.quantiles.iter().all(|q| q.is_finite() && *q >= 0.0), "{horizon:?}");
            assert!(horizon.quantiles.is_sorted(), "{horizon:?}");
        }
    }
    assert_eq!(forecaster.memory_bytes(), memory_bytes);
});
