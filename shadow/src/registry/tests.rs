//! What a registry keeps, whatever happens to its file and beside it.

use super::*;

async fn open(path: &Path) -> Result<Registry, ShadowError> {
    Registry::open(path, &Arc::new(Ground::default())).await
}

fn handle(id: u64) -> Handle {
    Handle {
        id: InstanceId(id),
        service: ServiceName::from("shop"),
        address: "127.0.0.1:9000".parse().unwrap(),
        pid: Some(7),
        state: "{}".to_owned(),
    }
}

#[tokio::test]
async fn rows_live_from_the_intent_to_the_end_across_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("foreshadow.db");
    let registry = open(&path).await.unwrap();
    let shop = ServiceName::from("shop");
    for id in [1, 2] {
        let at = (shop.clone(), PlaceName::from("west"));
        registry.creating(InstanceId(id), at, "process", "f".into()).await.unwrap();
    }
    registry.created(&handle(2)).await.unwrap();
    registry.tier(InstanceId(2), Tier::Warm).await.unwrap();
    registry.flush().await.unwrap();
    drop(registry);

    let registry = open(&path).await.unwrap();
    let rows = registry.rows().await.unwrap();
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[1].place, PlaceName::from("west"));
    assert_eq!((rows[0].tier, &rows[0].handle), (Tier::Cold, &None));
    assert_eq!((rows[1].tier, &rows[1].handle), (Tier::Warm, &Some(handle(2))));
    registry.ended(InstanceId(1)).await.unwrap();
    assert_eq!(registry.rows().await.unwrap().len(), 1);
}

#[tokio::test]
async fn ids_are_never_handed_out_twice_and_primaries_keep_theirs() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("foreshadow.db");
    let (a, b) = ("127.0.0.1:1".parse().unwrap(), "127.0.0.1:2".parse().unwrap());
    let shop = ServiceName::from("shop");
    let registry = open(&path).await.unwrap();
    assert_eq!(registry.reserve_ids(10).await.unwrap(), 1);
    let first = registry.primary_id(shop.clone(), a).await.unwrap();
    assert_eq!(first, InstanceId(11));
    drop(registry);
    let registry = open(&path).await.unwrap();
    assert_eq!(registry.primary_id(shop.clone(), a).await.unwrap(), first);
    assert_eq!(registry.primary_id(shop, b).await.unwrap(), InstanceId(12));
    assert_eq!(registry.reserve_ids(1).await.unwrap(), 13);
}

#[tokio::test]
async fn a_database_from_before_places_is_read_with_its_instances() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("foreshadow.db");
    let db = Connection::open(&path).unwrap();
    db.execute_batch(MIGRATIONS[0]).unwrap();
    db.execute_batch(
        "CREATE TABLE instances_schema (version INTEGER NOT NULL) STRICT;
         INSERT INTO instances_schema VALUES (1);
         INSERT INTO instances (id, service, provider, fingerprint, tier, tier_since_ms, created_ms)
         VALUES (3, 'shop', 'process', 'f', 'warm', 5, 4);",
    )
    .unwrap();
    drop(db);
    let rows = open(&path).await.unwrap().rows().await.unwrap();
    assert_eq!((rows.len(), rows[0].id, rows[0].tier), (1, InstanceId(3), Tier::Warm));
    assert!(rows[0].place.is_default());
}

#[tokio::test]
async fn another_writer_of_the_file_keeps_nobody_from_an_id() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("foreshadow.db");
    let registry = open(&path).await.unwrap();
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (other, stopped) = (Connection::open(&path).unwrap(), Arc::clone(&stop));
    other.busy_timeout(Duration::from_secs(5)).unwrap();
    other.execute_batch("CREATE TABLE beside (n INTEGER)").unwrap();
    let writer = std::thread::spawn(move || {
        while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
            other.execute("INSERT INTO beside VALUES (1)", []).unwrap();
            // Who waits for SQLite's lock only looks now and then: one that is never free is never got.
            std::thread::sleep(Duration::from_micros(500));
        }
    });
    for port in 1..=300 {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let id = registry.primary_id(ServiceName::from("shop"), address).await;
        assert!(id.is_ok(), "{port}: {id:?}");
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    writer.join().unwrap();
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("foreshadow.db");
    drop(open(&path).await.unwrap());
    let db = Connection::open(&path).unwrap();
    db.execute("INSERT INTO instances_schema VALUES (99)", []).unwrap();
    let error = open(&path).await.err().unwrap();
    assert!(matches!(error, ShadowError::Newer { found: 99, .. }), "{error}");
}

/// A registry whose time is `days` since 1970.
async fn on_day(path: &Path, days: u64) -> Registry {
    let unix_ms = Box::new(move || days * 24 * 3_600 * 1_000);
    Registry::open(path, &Arc::new(Ground { unix_ms, ..Ground::default() })).await.unwrap()
}

async fn ids_kept(registry: &Registry) -> u64 {
    let count =
        |db: &mut Connection| db.query_row("SELECT count(*) FROM ids", [], |row| row.get(0));
    registry.call(count).await.unwrap()
}

#[tokio::test]
async fn ids_of_addresses_that_nobody_uses_any_more_are_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("foreshadow.db");
    let shop = ServiceName::from("shop");
    let at = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
    let registry = on_day(&path, 100).await;
    let configured = registry.primary_id(shop.clone(), at(1)).await.unwrap();
    let used = registry.found_id(shop.clone(), at(2)).await.unwrap();
    registry.found_id(shop.clone(), at(3)).await.unwrap();
    // One that the configuration has as well is as good as one that it alone has.
    registry.found_id(shop.clone(), at(4)).await.unwrap();
    registry.primary_id(shop.clone(), at(4)).await.unwrap();
    drop(registry);
    let registry = on_day(&path, 120).await;
    assert_eq!(registry.found_id(shop.clone(), at(2)).await.unwrap(), used);
    drop(registry);
    let registry = on_day(&path, 131).await;
    let new = registry.found_id(shop.clone(), at(5)).await.unwrap();
    assert_eq!(ids_kept(&registry).await, 4, "all but that of port 3");
    assert_eq!(registry.primary_id(shop.clone(), at(1)).await.unwrap(), configured);
    assert_eq!(registry.found_id(shop.clone(), at(2)).await.unwrap(), used);
    let again = registry.found_id(shop, at(3)).await.unwrap();
    assert!(again > new, "an id is never that of another address");
}

#[tokio::test]
async fn of_found_addresses_so_many_are_remembered() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("foreshadow.db");
    let shop = ServiceName::from("shop");
    let registry = on_day(&path, 100).await;
    let many = |db: &mut Connection| {
        let insert =
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 12000)
             INSERT INTO ids (service, address, id, found, seen_ms)
             SELECT 'shop', 'a' || i, 100000 + i, 1, 99 * 86400000 + i FROM n";
        db.execute(insert, []).map(drop)
    };
    registry.call(many).await.unwrap();
    registry.found_id(shop, SocketAddr::from(([127, 0, 0, 1], 1))).await.unwrap();
    assert_eq!(ids_kept(&registry).await, u64::from(MOST_FOUND));
}
