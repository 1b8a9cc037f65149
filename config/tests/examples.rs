//! The examples are read, printed and read again; the JSON Schema knows all they use.

use std::path::PathBuf;
use std::time::Duration;

use foreshadow_config::{
    Config, DEFAULT_STATE_DIR, Format, HealthCheck, Provider, json_schema, load, parse,
};
use foreshadow_control::{Capacity, Mode};
use serde_json::Value;

fn no_env(_: &str) -> Option<String> {
    None
}

fn example(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples").join(name)
}

fn examples() -> Vec<(PathBuf, Config)> {
    let files = std::fs::read_dir(example("")).expect("the examples are there");
    let mut examples: Vec<_> = files
        .map(|file| file.expect("an entry of the directory").path())
        .filter(|path| path.is_file())
        .map(|path| {
            let text = std::fs::read_to_string(&path).expect("an example is text");
            let format = Format::of(&path).expect("an example has a known extension");
            let config = parse(&text, format, &path.display().to_string(), &no_env);
            (path, config.unwrap_or_else(|errors| panic!("{errors}")))
        })
        .collect();
    examples.sort_by(|a, b| a.0.cmp(&b.0));
    assert!(examples.len() >= 3);
    examples
}

/// The page that describes what a user touches, word for word.
const DESIGN: &str = r#"
listeners:
  - address: 0.0.0.0:8080          # http; tls: {...} and protocol: tcp|udp for the others
    routes:
      - match: { host: shop.example.com, path: { prefix: / } }
        service: shop
services:
  shop:
    primaries: [127.0.0.1:9001, 127.0.0.1:9002]
    objective: { latency_p99: 50ms, error_rate: 0.1% }
    health: { path: /healthz, interval: 1s }
    mode: act
    shadows:
      provider: { process: { command: [./shop, --port, "{port}"] } }
      pool: { shadow: 1, warm: 1, max: 4 }
    forecast: { horizon: 30s }
admin: { address: 127.0.0.1:9900 }
"#;

fn design() -> Config {
    parse(DESIGN, Format::Yaml, "design.yaml", &no_env).unwrap_or_else(|errors| panic!("{errors}"))
}

#[test]
fn the_design_is_read_as_it_is_written() {
    let config = design();
    let shop = &config.services["shop"];
    assert_eq!(shop.mode, Mode::Act);
    assert_eq!(shop.capacity, Capacity::Learned);
    assert_eq!(shop.primaries[1].address, "127.0.0.1:9002".parse().unwrap());
    assert_eq!((shop.objective.latency_ms, shop.objective.latency_quantile), (50.0, 0.99));
    assert_eq!(shop.objective.error_rate, 0.001);
    let HealthCheck::Http { path, host, expect } = &shop.health.check else { panic!() };
    assert_eq!(
        (path.as_str(), host, expect[0].to_string().as_str()),
        ("/healthz", &None, "200-399")
    );
    let shadows = shop.shadows.as_ref().unwrap();
    let pool = shadows.pool;
    assert_eq!((pool.shadow, pool.warm, pool.full, pool.max), (1, 1, 0, 4));
    let Provider::Process(process) = &shadows.places[0].provider else { panic!() };
    assert_eq!(process.command, ["./shop", "--port", "{port}"]);
    assert_eq!(config.drain_timeout, Duration::from_secs(30));
    assert_eq!(config.state_dir, PathBuf::from(DEFAULT_STATE_DIR));
    let spec = &config.service_specs()[0];
    assert_eq!((spec.name.as_str(), spec.horizon_ms, spec.warm_up_ms), ("shop", 30_000, 5_000));
    assert_eq!(spec.seasons_ms, [86_400_000]);
    assert_eq!(spec.pool, Some(pool));
}

#[test]
fn quickstart_works_with_any_server() {
    let config = load(&example("quickstart.yaml")).unwrap_or_else(|errors| panic!("{errors}"));
    let web = &config.services["web"];
    assert_eq!(web.health.check, HealthCheck::Tcp);
    assert_eq!(web.primaries.len(), 2);
    assert_eq!(config.listeners[0].address, "127.0.0.1:8080".parse().unwrap());
    assert_eq!(config.listeners[0].name, "127.0.0.1:8080");
}

#[test]
fn what_is_printed_is_read_back_as_the_same() {
    let mut configs = examples();
    configs.push((PathBuf::from("design.yaml"), design()));
    for (path, config) in configs {
        let yaml = config.to_yaml().unwrap();
        let back = parse(&yaml, Format::Yaml, "printed.yaml", &no_env)
            .unwrap_or_else(|errors| panic!("{}: {errors}\n{yaml}", path.display()));
        assert_eq!(back, config, "{}\n{yaml}", path.display());
        let json = serde_json::to_string(&config).unwrap().replace('$', "$$");
        let back = parse(&json, Format::Json, "printed.json", &no_env)
            .unwrap_or_else(|errors| panic!("{}: {errors}\n{json}", path.display()));
        assert_eq!(back, config, "{}", path.display());
    }
}

#[test]
fn texts_of_every_kind_survive_printing() {
    let odd = [
        "yes",
        "null",
        "1e3",
        "a: b # c",
        "*x",
        "${HOME}",
        "a$$b",
        "'q' \"q\"",
        "",
        " x ",
        "line\nbreak",
        "tab\t",
        "ünï",
        "-",
        "{json: 1}",
        "0x10",
        "~",
        "2001-01-01",
        "%",
        "@",
        "\u{7f}",
        "\u{2028}",
        "\u{feff}x",
        &"long words ".repeat(30),
    ];
    let words: Vec<_> = odd.iter().map(|word| word.replace('$', "$$")).collect();
    let command: Vec<_> = ["p".to_owned(), "{port}".to_owned()].into_iter().chain(words).collect();
    let json = serde_json::json!({
        "listeners": [{ "address": ":80", "routes": [{ "service": "s" }] }],
        "services": { "s": {
            "primaries": ["[::1]:1"],
            "shadows": { "provider": { "process": {
                "command": command,
                "env": { "A": "$${B} yes: no", "Y": "on" },
            } } },
        } },
    });
    let config = parse(&json.to_string(), Format::Json, "odd.json", &no_env)
        .unwrap_or_else(|errors| panic!("{errors}"));
    let places = &config.services["s"].shadows.as_ref().unwrap().places;
    let Provider::Process(process) = &places[0].provider else { panic!() };
    assert_eq!(process.command[2..], odd);
    assert_eq!(process.env["A"], "${B} yes: no");
    let yaml = config.to_yaml().unwrap();
    let back = parse(&yaml, Format::Yaml, "printed.yaml", &no_env);
    assert_eq!(back.unwrap_or_else(|errors| panic!("{errors}\n{yaml}")), config, "{yaml}");
}

/// Checks `value` against the parts of JSON Schema that ours uses.
fn accepts(schema: &Value, value: &Value, root: &Value) -> Result<(), String> {
    if let Some(name) = schema["$ref"].as_str() {
        let target = root.pointer(name.trim_start_matches('#')).ok_or(format!("no {name}"))?;
        return accepts(target, value, root);
    }
    if let Some(any) = schema["anyOf"].as_array() {
        return match any.iter().any(|schema| accepts(schema, value, root).is_ok()) {
            true => Ok(()),
            false => Err(format!("{value} fits none of {any:?}")),
        };
    }
    let fits = |name: &str| match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        other => panic!("unknown type {other}"),
    };
    let typed = match &schema["type"] {
        Value::String(name) => fits(name),
        Value::Array(names) => names.iter().filter_map(Value::as_str).any(fits),
        _ => schema["enum"].as_array().is_some_and(|names| names.contains(value)),
    };
    if !typed {
        return Err(format!("{value} is not {schema}"));
    }
    let mut items = value.as_array().into_iter().flatten();
    items.try_for_each(|item| accepts(&schema["items"], item, root))?;
    for (key, value) in value.as_object().into_iter().flatten() {
        match (&schema["properties"][key], &schema["additionalProperties"]) {
            (Value::Null, extra @ Value::Object(_)) => accepts(extra, value, root)?,
            (Value::Null, _) => return Err(format!("unknown key {key}")),
            (property, _) => accepts(property, value, root).map_err(|e| format!("{key}: {e}"))?,
        }
    }
    for key in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if value.get(key).is_none() {
            return Err(format!("no {key}"));
        }
    }
    Ok(())
}

#[test]
fn the_schema_accepts_every_effective_configuration() {
    let schema = json_schema();
    for (path, config) in examples() {
        let value = serde_json::to_value(&config).unwrap();
        if let Err(error) = accepts(&schema, &value, &schema) {
            panic!("{}: {error}", path.display());
        }
    }
    let mut value = serde_json::to_value(design()).unwrap();
    value["services"]["shop"]["modee"] = "act".into();
    assert!(accepts(&schema, &value, &schema).unwrap_err().contains("unknown key modee"));
    value = serde_json::to_value(design()).unwrap();
    value.as_object_mut().unwrap().remove("services");
    assert!(accepts(&schema, &value, &schema).unwrap_err().contains("services"));
}

#[test]
fn the_schema_accepts_the_examples_as_written() {
    let schema = json_schema();
    for (path, _) in examples() {
        let text = std::fs::read_to_string(&path).unwrap();
        let value: Value = match Format::of(&path) {
            Some(Format::Toml) => toml::from_str(&text).unwrap(),
            _ => serde_saphyr::from_str(&text).unwrap(),
        };
        accepts(&schema, &value, &schema).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }
}

#[test]
fn the_schema_names_the_default_state_directory() {
    let schema = json_schema();
    let text = schema["properties"]["state_dir"]["description"].as_str().unwrap();
    assert!(text.contains(&format!("Default: {DEFAULT_STATE_DIR},")), "{text}");
}

#[test]
fn every_key_of_the_schema_is_described() {
    fn walk(schema: &Value, path: &str) {
        for (key, property) in schema["properties"].as_object().into_iter().flatten() {
            let text = property["description"].as_str().unwrap_or_default();
            assert!(text.len() > 5, "{path}.{key} is not described");
        }
    }
    let schema = json_schema();
    walk(&schema, "");
    let tables = schema["$defs"].as_object().unwrap();
    assert!(tables.len() >= 20, "{}", tables.len());
    for (name, table) in tables {
        walk(table, name);
    }
}
