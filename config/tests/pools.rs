//! Places of shadows, sizes of pools, costs and who is told of alerts, as they are written.

use std::time::Duration;

use foreshadow_config::{Config, Errors, Format, Provider, parse};
use foreshadow_control::{Kept, PlaceName, QuantileSpec};

fn read_with(service: &str, top: &str) -> Result<Config, Errors> {
    let text = format!(
        "listeners: [{{ address: ':80', routes: [{{ service: s }}] }}]\n{top}\n\
         services:\n  s:\n    primaries: ['127.0.0.1:1', '127.0.0.1:2', '127.0.0.1:3']\n    {service}\n"
    );
    parse(&text, Format::Yaml, "config.yaml", &|_| None)
}

fn read(service: &str) -> Result<Config, Errors> {
    read_with(service, "")
}

fn config(service: &str) -> Config {
    read(service).unwrap_or_else(|errors| panic!("{errors}"))
}

fn process() -> &'static str {
    "provider: { process: { command: [./s, '{port}'] } }"
}

#[test]
fn one_provider_is_one_place_without_a_name() {
    let config = config(&format!("shadows: {{ {}, zone: north }}", process()));
    let shadows = config.services["s"].shadows.as_ref().unwrap();
    assert_eq!(shadows.places.len(), 1);
    let place = &shadows.places[0];
    assert!(place.name.is_default() && !shadows.are_named);
    assert_eq!((place.zone.as_str(), place.max, place.spare), ("north", None, None));
    assert_eq!(config.service_specs()[0].places, [], "nothing is known that could be chosen by");
}

#[test]
fn places_are_read_with_what_they_cost_and_hold() {
    let config = config(&format!(
        "cost: {{ per_hour: 0.4, violation_per_second: 0.02 }}\n    shadows:\n      places:\n        \
         west: {{ {0}, zone: w, max: 3, spare: 2, cost_per_hour: 0.1, latency: 2500us }}\n        \
         east: {{ provider: {{ webhook: {{ url: 'http://e:1' }} }} }}\n      pool: {{ max: 6 }}",
        process()
    ));
    let service = &config.services["s"];
    let shadows = service.shadows.as_ref().unwrap();
    let names: Vec<&str> = shadows.places.iter().map(|place| place.name.as_str()).collect();
    assert_eq!(names, ["east", "west"]);
    assert!(matches!(shadows.places[0].provider, Provider::Webhook(_)));
    let specs = &config.service_specs()[0].places;
    let (east, west) = (&specs[0], &specs[1]);
    assert_eq!((east.cost_per_hour, east.latency_ms, east.max), (0.4, 0.0, None));
    assert_eq!((west.cost_per_hour, west.latency_ms), (0.1, 2.5));
    assert_eq!((west.max, west.spare, west.zone.as_str()), (Some(3), Some(2), "w"));
    // 0.02 a second is 180 times what a second of a shadow costs.
    assert_eq!(service.forecast.quantiles, QuantileSpec::of_cost(180.0));
    let yaml = config.to_yaml().unwrap();
    let back = parse(&yaml, Format::Yaml, "printed.yaml", &|_| None);
    assert_eq!(back.unwrap_or_else(|errors| panic!("{errors}\n{yaml}")), config, "{yaml}");
}

#[test]
fn figures_of_a_pool_may_be_shares_of_the_primaries() {
    let config =
        config(&format!("shadows: {{ {}, pool: {{ warm: 50%, min: 34%, max: 5 }} }}", process()));
    let shadows = config.services["s"].shadows.as_ref().unwrap();
    assert_eq!((shadows.pool.warm, shadows.pool.max), (2, 5), "half of three, rounded up");
    assert_eq!(shadows.sizing.warm_share, Some(0.5));
    assert_eq!(shadows.sizing.min, Some(Kept::Share(0.34)));
    let yaml = config.to_yaml().unwrap();
    assert!(yaml.contains("50%") && yaml.contains("34%"), "{yaml}");
    let back = parse(&yaml, Format::Yaml, "printed.yaml", &|_| None);
    assert_eq!(back.unwrap_or_else(|errors| panic!("{errors}\n{yaml}")), config);
}

#[test]
fn what_does_not_fit_together_is_refused_once_and_says_why() {
    let place = format!("places: {{ a: {{ {} }} }}", process());
    for (service, message) in [
        (format!("shadows: {{ {}, {place} }}", process()), "places beside provider"),
        (format!("shadows: {{ zone: z, {place} }}"), "zone beside places"),
        ("shadows: { pool: { max: 4 } }".to_owned(), "no \"provider\""),
        ("shadows: { places: {} }".to_owned(), "0 places"),
        (format!("shadows: {{ places: {{ 'a b': {{ {} }} }} }}", process()), "the name \"a b\""),
        ("shadows: { places: { a: { zone: z } } }".to_owned(), "no \"provider\""),
        (format!("shadows: {{ {}, pool: {{ warm: 200%, max: 4 }} }}", process()), "at least 6"),
        (format!("shadows: {{ {}, pool: {{ min: 9, max: 4 }} }}", process()), "the pool's max, 4"),
        ("cost: { per_hour: 0, violation_per_second: 1 }".to_owned(), "found 0"),
        ("cost: { per_hour: 1 }".to_owned(), "no \"violation_per_second\""),
        (
            "cost: { per_hour: 1, violation_per_second: 1 }\n    forecast: { violation_cost: 5 }"
                .to_owned(),
            "violation_cost beside cost",
        ),
    ] {
        let errors = read(&service).unwrap_err();
        assert_eq!(errors.len(), 1, "{service}: {errors}");
        assert!(errors.to_string().contains(message), "{service}: {errors}");
    }
}

#[test]
fn ports_must_do_for_what_a_place_may_hold() {
    let of = |max: u32| {
        read(&format!(
            "shadows: {{ places: {{ a: {{ max: {max}, provider: {{ process: {{ command: [s, \
             '{{port}}'], ports: 40000-40001 }} }} }} }}, pool: {{ max: 6 }} }}"
        ))
    };
    assert!(of(2).is_ok());
    assert!(of(3).unwrap_err().to_string().contains("at least 3"), "no more than are needed");
}

#[test]
fn what_is_secret_in_a_place_is_covered_and_so_is_what_alerts_are_sent_with() {
    let config = read_with(
        "shadows: { places: { a: { provider: { webhook: { url: 'http://e:1', token: secret-one } } }, \
         b: { provider: { process: { command: [s, '{port}'], env: { PASSWORD: secret-two } } } } } }",
        "alerts: { webhook: { url: 'http://hook:1/x', token: secret-three, \
         headers: { X-Key: secret-four } } }",
    )
    .unwrap_or_else(|errors| panic!("{errors}"));
    let shown = config.masked().to_string();
    let secrets = config.secrets();
    for secret in ["secret-one", "secret-two", "secret-three", "secret-four"] {
        assert!(!shown.contains(secret), "{shown}");
        assert!(secrets.iter().any(|known| known == secret), "{secret} in {secrets:?}");
    }
    assert!(shown.contains("http://hook:1/x"));
    let said = format!("{:?}", config.alerts);
    assert!(!said.contains("secret-"), "{said}");
    let webhook = config.alerts.webhook.unwrap();
    assert_eq!(
        (webhook.timeout, webhook.give_up),
        (Duration::from_secs(5), Duration::from_secs(3600))
    );
    assert_eq!(webhook.headers.keys().map(String::as_str).collect::<Vec<_>>(), ["x-key"]);
}

#[test]
fn headers_that_cannot_be_sent_are_refused_without_their_value() {
    for (headers, message) in [
        ("{ 'a b': x }", "the name \"a b\""),
        ("{ Host: x }", "the name \"Host\""),
        ("{ X: 'secret\u{e9}' }", "printable ASCII"),
    ] {
        let top = format!("alerts: {{ webhook: {{ url: 'http://hook:1', headers: {headers} }} }}");
        let errors = read_with("", &top).unwrap_err().to_string();
        assert!(errors.contains(message) && !errors.contains("secret"), "{errors}");
    }
}

#[test]
fn a_token_of_two_places_at_one_endpoint_is_the_same() {
    let of = |second: &str| {
        read(&format!(
            "shadows: {{ places: {{ a: {{ provider: {{ webhook: {{ url: 'http://e:1', token: aaaaaaaa }} \
             }} }}, b: {{ provider: {{ webhook: {{ url: 'http://e:1', token: {second} }} }} }} }} }}"
        ))
    };
    assert!(of("aaaaaaaa").is_ok());
    let errors = of("bbbbbbbb").unwrap_err().to_string();
    assert!(errors.contains("another token than that of"), "{errors}");
    let name = PlaceName::from("a");
    assert!(
        config(&format!("shadows: {{ places: {{ a: {{ {} }} }} }}", process())).services["s"]
            .shadows
            .as_ref()
            .unwrap()
            .place(&name)
            .is_some()
    );
}

/// Two places that hold `max` each, and a pool.
fn bounded(max: u32, pool: &str) -> Result<Config, Errors> {
    read(&format!(
        "shadows:\n      places:\n        a: {{ {0}, max: {max} }}\n        b: {{ {0}, max: {max} }}\n      \
         pool: {pool}",
        process()
    ))
}

#[test]
fn a_reserve_that_no_place_has_room_for_is_refused_with_its_figures() {
    let refused = |pool: &str| bounded(1, pool).unwrap_err().to_string();
    let text = refused("{ shadow: 1, warm: 2, max: 8 }");
    assert!(text.contains("3 in reserve: shadow 1 + warm 2 + full 0"), "{text}");
    assert!(text.contains("at most 2, the max of all places together"), "{text}");
    assert!(text.contains("raise the max of a place, or add one"), "{text}");
    let text = refused("{ shadow: 1, warm: 1, min: 3, max: 8 }");
    assert!(text.contains("at most 2, the max of all places together"), "{text}");
    assert!(bounded(2, "{ shadow: 1, warm: 2, max: 4 }").unwrap().warnings().is_empty());
}

#[test]
fn a_bound_beyond_that_of_the_places_is_said_and_a_default_is_not_beyond_it() {
    let config = bounded(1, "{ shadow: 1, warm: 1, max: 8 }").unwrap();
    let said = config.warnings().join("");
    assert!(said.contains("the pool's max is 8, and its places allow 2 together"), "{said}");
    let config = bounded(1, "{ warm: 1 }").unwrap();
    assert!(config.warnings().is_empty());
    let pool = config.services["s"].shadows.as_ref().unwrap().pool;
    assert_eq!((pool.shadow, pool.warm, pool.max), (1, 1, 2), "defaults give way");
}

#[test]
fn how_long_is_waited_after_failures_is_read_by_place_and_held_within_bounds() {
    let of = |retry: &str| {
        read(&format!("shadows:\n      places:\n        a: {{ {}, retry: {retry} }}", process()))
    };
    let waits = |config: &Config| {
        let retry = config.services["s"].shadows.as_ref().unwrap().places[0].retry;
        (retry.first, retry.most)
    };
    let ms = Duration::from_millis;
    assert_eq!(waits(&of("{}").unwrap()), (ms(200), ms(30_000)));
    assert_eq!(waits(&of("{ first: 5s, most: 10m }").unwrap()), (ms(5_000), ms(600_000)));
    assert_eq!(waits(&of("{ first: 2m }").unwrap()), (ms(120_000), ms(120_000)));
    let only = config(&format!("shadows: {{ {}, retry: {{ first: 1s }} }}", process()));
    assert_eq!(waits(&only), (ms(1_000), ms(30_000)));
    let yaml = only.to_yaml().unwrap();
    let back = parse(&yaml, Format::Yaml, "printed.yaml", &|_| None).unwrap();
    assert_eq!(waits(&back), waits(&only), "printed as it is read");
    for (retry, said) in [
        ("{ first: 10ms }", "50ms"),
        ("{ most: 2h }", "1h"),
        ("{ first: 5s, most: 1s }", "at least first, 5s"),
    ] {
        let text = of(retry).unwrap_err().to_string();
        assert!(text.contains(said), "{retry}: {text}");
    }
    let both = read(&format!(
        "shadows:\n      retry: {{ first: 1s }}\n      places:\n        a: {{ {} }}",
        process()
    ));
    assert!(both.unwrap_err().to_string().contains("a retry in each place"));
}

#[test]
fn what_a_place_cannot_do_is_said_with_what_it_costs() {
    let said = |can: &str, pool: &str| {
        let config = config(&format!(
            "cost: {{ per_hour: 0.4, violation_per_second: 0.02 }}\n    shadows:\n      places:\n        a: {{ \
             provider: {{ webhook: {{ url: 'http://e:1', can: {can} }} }} }}\n      pool: {pool}"
        ));
        config.warnings().join("; ")
    };
    assert_eq!(
        said("[]", "{ shadow: 1, warm: 1 }"),
        "service s: place a cannot freeze or resize: its reserve stands at full size, and costs 0.4 per hour \
         for each as a full one does"
    );
    assert!(
        said("[resize]", "{ shadow: 1 }")
            .contains("place a cannot freeze: what is kept at shadow runs on")
    );
    assert!(said("[freeze]", "{ shadow: 0, warm: 1 }").contains("place a cannot resize"));
    assert_eq!(said("[freeze, resize]", "{ shadow: 1, warm: 1 }"), "");
    assert_eq!(said("[]", "{ shadow: 0, warm: 0, full: 1 }"), "");
}
