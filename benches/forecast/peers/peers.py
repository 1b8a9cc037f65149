"""Forecasts windows with the libraries that people use, for comparison on identical data.

Reads windows as JSON lines from the file given first and writes one JSON line per window and
model to the file given second:

  in:  {"id", "start_ms", "step_ms", "season", "horizon", "history": [number or null]}
  out: {"id", "model", "mean": [...], "quantiles": [[...] per level], "ms"} or
       {"id", "model", "error"}

Every model sees the same history. Gaps are interpolated, since most of the libraries refuse them.
"""

import importlib.util
import json
import logging
import sys
import time
import warnings

import numpy as np

LEVELS = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
# Central intervals whose ends are the quantile levels above, as statsforecast wants them.
CENTRAL = [20, 40, 60, 80]


def filled(history):
    values = np.array([np.nan if value is None else value for value in history], dtype=float)
    known = np.flatnonzero(~np.isnan(values))
    return np.interp(np.arange(len(values)), known, values[known])


def statsforecast(model, window):
    result = model.forecast(y=filled(window["history"]), h=window["horizon"], level=CENTRAL)
    below = [result[f"lo-{width}"] for width in reversed(CENTRAL)]
    above = [result[f"hi-{width}"] for width in CENTRAL]
    return result["mean"], [*below, result["mean"], *above]


def auto_ets(window):
    from statsforecast.models import AutoETS

    return statsforecast(AutoETS(season_length=window["season"]), window)


def auto_theta(window):
    from statsforecast.models import AutoTheta

    return statsforecast(AutoTheta(season_length=window["season"]), window)


def mstl(window):
    from statsforecast.models import MSTL, AutoETS

    day = window["season"]
    # A season needs two repeats to be told from a trend.
    seasons = [season for season in (day, 7 * day) if 2 * season <= len(window["history"])]
    return statsforecast(MSTL(seasons, trend_forecaster=AutoETS(model="ZZN")), window)


def seasonal_naive(window):
    from statsforecast.models import SeasonalNaive

    return statsforecast(SeasonalNaive(season_length=window["season"]), window)


def prophet(window):
    import pandas as pd
    from prophet import Prophet

    step = pd.Timedelta(milliseconds=window["step_ms"])
    start = pd.Timestamp(window["start_ms"], unit="ms")
    values = filled(window["history"])
    frame = pd.DataFrame({"ds": start + step * np.arange(len(values)), "y": values})
    model = Prophet(uncertainty_samples=300)
    model.fit(frame, seed=1)
    ahead = start + step * np.arange(len(values), len(values) + window["horizon"])
    future = model.setup_dataframe(pd.DataFrame({"ds": ahead}))
    mean = model.predict_trend(future)
    mean = mean + model.predict_seasonal_components(future)["additive_terms"].to_numpy()
    np.random.seed(1)
    samples = model.predictive_samples(future)["yhat"]
    return mean, np.quantile(samples, LEVELS, axis=1)


def flaircast(window):
    from flaircast import forecast

    samples = forecast(
        filled(window["history"]), horizon=window["horizon"], freq="h", n_samples=300, seed=1
    )
    return np.mean(samples, axis=0), np.quantile(samples, LEVELS, axis=0)


MODELS = {
    "AutoETS": ("statsforecast", auto_ets),
    "AutoTheta": ("statsforecast", auto_theta),
    "MSTL": ("statsforecast", mstl),
    "Prophet": ("prophet", prophet),
    "flaircast": ("flaircast", flaircast),
    "SeasonalNaive (statsforecast)": ("statsforecast", seasonal_naive),
}


def answer(name, window):
    started = time.perf_counter()
    try:
        mean, quantiles = MODELS[name][1](window)
        mean, quantiles = np.asarray(mean, float), np.asarray(quantiles, float)
        if not (np.isfinite(mean).all() and np.isfinite(quantiles).all()):
            raise ValueError("the forecast is not finite")
    # A library that fails on a window is a result, not an end of the run.
    except Exception as error:  # noqa: BLE001
        return {"id": window["id"], "model": name, "error": f"{type(error).__name__}: {error}"}
    return {
        "id": window["id"],
        "model": name,
        "mean": mean.tolist(),
        "quantiles": quantiles.tolist(),
        "ms": (time.perf_counter() - started) * 1000,
    }


def main(windows_path, results_path, budget_s):
    warnings.filterwarnings("ignore")
    # cmdstanpy sets its own level when it is first imported; Prophet calls a missing plotly an error.
    logging.disable(logging.ERROR)
    with open(windows_path, encoding="utf-8") as lines:
        windows = [json.loads(line) for line in lines]
    names = [name for name, (module, _) in MODELS.items() if importlib.util.find_spec(module)]
    with open(results_path, "w", encoding="utf-8") as results:
        for name in names:
            # Compilers and caches warm up on a window whose answer is not kept.
            answer(name, windows[0])
        deadline = time.monotonic() + budget_s
        # Window by window, so that the time limit leaves the same windows to all models.
        for window in windows:
            if time.monotonic() > deadline:
                break
            for name in names:
                results.write(json.dumps(answer(name, window)) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]))
