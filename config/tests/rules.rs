//! Rules in a configuration: read, checked against its services, and errors that point into them.

use foreshadow_config::{Config, Errors, Format, parse};

fn read(text: &str, format: Format) -> Result<Config, Errors> {
    let env = |name: &str| (name == "LIMIT").then(|| "500".to_owned());
    parse(text, format, "config", &env)
}

fn yaml(rules: &str) -> String {
    format!(
        "listeners:
  - address: 127.0.0.1:8080
    routes: [{{ service: shop }}]
services:
  shop:
    primaries: [127.0.0.1:9001]
    shadows:
      provider: {{ process: {{ command: [./shop, \"{{port}}\"] }} }}
      pool: {{ warm: 1, max: 4 }}
    rules:
{rules}  plain:
    primaries: [127.0.0.1:9002]
"
    )
}

/// Each error as `line:column path: message`.
fn errors(text: &str, format: Format) -> Vec<String> {
    let errors = read(text, format).expect_err("the text is wrong");
    let told = errors.iter().map(|d| format!("{}:{} {}", d.line, d.column, d.message()));
    told.collect()
}

#[test]
fn rules_are_read_in_the_order_of_their_names() {
    let text = yaml(
        "      surge: \"p90 of demand>${LIMIT}rps within 5m for 3 ticks->activate 2 of shop\"
      calm: >-
        utilisation < 20%
        for 10m -> hold, alert \"calm\"\n",
    );
    let config = read(&text, Format::Yaml).unwrap_or_else(|errors| panic!("{errors}"));
    let specs = config.service_specs();
    let shop = specs.iter().find(|spec| spec.name.as_str() == "shop").unwrap();
    let rules: Vec<_> = shop.rules.iter().map(|r| (r.name.as_str(), r.rule.to_string())).collect();
    let surge = "p90 of demand > 500rps within 5m for 3 ticks -> activate 2 of shop".to_owned();
    let calm = "utilisation < 20% for 10m -> hold, alert \"calm\"".to_owned();
    assert_eq!(rules, [("calm", calm), ("surge", surge)]);
    let back = parse(&config.to_yaml().unwrap(), Format::Yaml, "printed", &|_| None).unwrap();
    assert_eq!(back, config);
}

#[test]
fn errors_point_into_the_rule() {
    let told = errors(
        &yaml(
            "      plain: demnad > 5rps -> hold
      quoted: \"cpu > 80 -> hold\"
      single: 'cpu > 80% -> hold wieght 3'
      folded: >-
        cpu > 80%
        withn 5m -> hold
      end: cpu > 80%
      list: [cpu]\n",
        ),
        Format::Yaml,
    );
    let metric = "services.shop.rules.plain: found \"demnad\", expected a metric; did you mean";
    assert!(told[0].starts_with(&format!("11:14 {metric} \"demand\"?")), "{told:#?}");
    assert!(told[1].starts_with("12:22 services.shop.rules.quoted: found \"80\""), "{told:#?}");
    assert!(told[2].starts_with("13:34 services.shop.rules.single: found \"wieght\""), "{told:#?}");
    assert!(told[3].starts_with("16:9 services.shop.rules.folded: found \"withn\""), "{told:#?}");
    assert!(told[4].starts_with("17:21 services.shop.rules.end: found the end"), "{told:#?}");
    assert!(told[5].contains("found a list, expected a rule such as"), "{told:#?}");
    let shown = read(&yaml("      plain: demnad > 5rps -> hold\n"), Format::Yaml).unwrap_err();
    let mark = "   11 |       plain: demnad > 5rps -> hold\n      |              ^^^^^^";
    assert!(shown.to_string().contains(mark), "{shown}");
}

#[test]
fn errors_point_into_rules_of_other_formats_and_survive_escapes() {
    let toml = "listeners = [{ address = \"127.0.0.1:8080\", routes = [{ service = \"shop\" }] }]
[services.shop]
primaries = [\"127.0.0.1:9001\"]
[services.shop.rules]
plain = \"cpu > 80% for 0 ticks -> hold\"
escaped = \"cpu > 80% -> alert \\\"x\\\" wieght 2\"
";
    let told = errors(toml, Format::Toml);
    assert!(told[0].starts_with("5:24 services.shop.rules.plain: found \"0\""), "{told:#?}");
    let escaped = "6:11 services.shop.rules.escaped: found \"wieght\" in column 24 of the rule";
    assert!(told[1].starts_with(escaped), "{told:#?}");
    let filled = yaml("      filled: demand > ${LIMIT}rpm -> hold\n");
    let told = errors(&filled, Format::Yaml);
    assert!(told[0].contains("found \"rpm\" in column 13 of the rule"), "{told:#?}");
}

#[test]
fn what_can_never_be_had_is_refused() {
    let told = errors(
        &yaml(
            "      many: cpu > 80% -> activate 5
      where: cpu > 80% -> warm 1 of shpo
      bare: cpu > 80% -> prepare 1 of plain
      held: cpu > 80% -> hold of plain, alert \"fine\"
      bad name: cpu > 80% -> hold\n",
        ),
        Format::Yaml,
    );
    assert_eq!(told.len(), 4, "{told:#?}");
    assert!(told[0].contains("found activate 5, expected at most 4, the pool's max"), "{told:#?}");
    assert!(told[1].contains("a configured service: "), "{told:#?}");
    assert!(told[2].contains("found prepare 1 of plain, expected shadows of plain"), "{told:#?}");
    assert!(told[3].contains("found the name \"bad name\""), "{told:#?}");
    let many: String = (0..65).map(|n| format!("      r{n}: cpu > 80% -> hold\n")).collect();
    let told = errors(&yaml(&many), Format::Yaml);
    assert!(told[0].contains("found 65 rules, expected at most 64"), "{told:#?}");
    let asks = |from: u32, count: u32| {
        let asks = (from..from + count).map(|n| format!("demand > 100rps within {n}m"));
        asks.collect::<Vec<_>>().join(" or ")
    };
    let far = |last| {
        let rules = [(0, asks(20, 30)), (1, asks(50, 30)), (2, asks(80, last)), (3, asks(20, 10))];
        rules.map(|(n, asks)| format!("      far{n}: {asks} -> hold\n")).concat()
    };
    let told = errors(&yaml(&far(5)), Format::Yaml);
    let expected =
        "found 65 different times and quantiles beyond 10 minutes ahead, expected at most 64";
    assert!(told[0].contains(expected), "{told:#?}");
    assert!(read(&yaml(&far(4)), Format::Yaml).is_ok());
}
