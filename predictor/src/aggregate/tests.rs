//! Weights that follow losses, whatever these are.

use super::*;

#[test]
fn follows_the_best_expert_and_changes_its_mind() {
    let mut hedge = Hedge::new(&[true; 3], 1.0);
    (0..100).for_each(|_| hedge.learn(&[10.0, 14.0, 7.0], 10.0, 1.0, 1.0, None));
    assert!(hedge.weights()[0] > 0.9, "{:?}", hedge.weights());
    (0..20).for_each(|_| hedge.learn(&[10.0, 14.0, 7.0], 14.0, 1.0, 1.0, None));
    assert!(hedge.weights()[1] > 0.9, "{:?}", hedge.weights());
    assert!((hedge.weights().iter().sum::<f64>() - 1.0).abs() < 1e-9);
}

#[test]
fn a_longer_horizon_hears_of_a_change_from_the_shorter_one() {
    let (mut shorter, mut longer) = (Hedge::new(&[true; 3], 1.0), Hedge::new(&[true; 3], 1.0));
    (0..50).for_each(|_| shorter.learn(&[10.0, 14.0, 14.0], 10.0, 1.0, 1.0, None));
    (0..50).for_each(|_| longer.learn(&[10.0; 3], 10.0, 1.0, 1.0, Some((&shorter, HINT))));
    assert!(longer.weights()[0] > 0.5, "{:?}", longer.weights());
    assert!((longer.weights()[2] - 1.0 / 3.0).abs() < 1e-6, "least squares keeps its own");
}

#[test]
fn no_loss_however_large_loses_an_expert_or_the_sum() {
    let mut hedge = Hedge::new(&[true; 2], 1.0);
    (0..1_000).for_each(|_| hedge.learn(&[1e9, 0.0], 0.0, 1e-9, 1.0, None));
    assert!(hedge.weights()[0] >= SHARE / 4.0);
    assert!((hedge.weights().iter().sum::<f64>() - 1.0).abs() < 1e-9);
}
