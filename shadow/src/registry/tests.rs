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
