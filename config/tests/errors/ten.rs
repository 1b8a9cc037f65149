//! One configuration with ten errors, in every format.

pub(crate) const TEN_YAML: &str = r#"listeners:
  - address: 127.0.0.1:8080
    routes:
      - match: { host: shop.example.com }
        service: shpo
  - address: 127.0.0.1:8080
    routes: [{ service: shop }]
services:
  shop:
    primaries: [127.0.0.1:9001, 127.0.0.1]
    mode: atc
    objectve: { latency_p99: 50ms }
    warm_up: 5
    retries: { attempts: 99 }
    capacity: "${CAPACITY}"
    health: fast
  web:
    mode: act
"#;

pub(crate) const TEN_TOML: &str = r#"[[listeners]]
address = "127.0.0.1:8080"
routes = [{ match = { host = "shop.example.com" }, service = "shpo" }]

[[listeners]]
address = "127.0.0.1:8080"
routes = [{ service = "shop" }]

[services.shop]
primaries = ["127.0.0.1:9001", "127.0.0.1"]
mode = "atc"
objectve = { latency_p99 = "50ms" }
warm_up = 5
retries = { attempts = 99 }
capacity = "${CAPACITY}"
health = "fast"

[services.web]
mode = "act"
"#;

pub(crate) const TEN_JSON: &str = r#"{
  "listeners": [
    { "address": "127.0.0.1:8080",
      "routes": [{ "match": { "host": "shop.example.com" }, "service": "shpo" }] },
    { "address": "127.0.0.1:8080", "routes": [{ "service": "shop" }] }
  ],
  "services": {
    "shop": {
      "primaries": ["127.0.0.1:9001", "127.0.0.1"],
      "mode": "atc",
      "objectve": { "latency_p99": "50ms" },
      "warm_up": 5,
      "retries": { "attempts": 99 },
      "capacity": "${CAPACITY}",
      "health": "fast"
    },
    "web": { "mode": "act" }
  }
}"#;

/// The path, the start of the message after it, and the place in each format.
pub(crate) const TEN: [(&str, &str, [&str; 3]); 10] = [
    (
        "listeners[0].routes[0].service",
        r#"found "shpo", expected a service of this file: shop, web; did you mean "shop"?"#,
        ["5:18", "3:62", "4:72"],
    ),
    (
        "listeners[1].address",
        "found 127.0.0.1:8080 again, expected each address once; it is also on line",
        ["6:14", "6:11", "5:18"],
    ),
    (
        "services.shop.primaries[1]",
        r#"found "127.0.0.1", expected an IP address and a port, such as 127.0.0.1:8080"#,
        ["10:33", "10:32", "9:39"],
    ),
    (
        "services.shop.mode",
        r#"found "atc", expected one of observe, advise, act; did you mean "act"?"#,
        ["11:11", "11:8", "10:15"],
    ),
    (
        "services.shop.objectve",
        r#"found unknown key "objectve", expected one of primaries, group, objective, "#,
        ["12:5", "12:1", "11:7"],
    ),
    (
        "services.shop.warm_up",
        "found 5, expected a duration with its unit, such as 50ms",
        ["13:14", "13:11", "12:18"],
    ),
    (
        "services.shop.retries.attempts",
        "found 99, expected at most 10",
        ["14:26", "14:24", "13:32"],
    ),
    (
        "services.shop.capacity",
        "found ${CAPACITY}, which is not set, expected a variable of the environment",
        ["15:15", "15:12", "14:19"],
    ),
    (
        "services.shop.health",
        r#"found "fast", expected a table with type, path, "#,
        ["16:13", "16:10", "15:17"],
    ),
    ("services.web", r#"found no "primaries", expected a list, "#, ["17:3", "18:11", "17:5"]),
];
