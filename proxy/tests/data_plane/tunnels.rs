//! Tunnels of which one end has closed its sending side.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;

use crate::support::{Backend, Client, Rig, within};

const SWITCHED: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

/// A backend that sends what it is told to, and closes once it is told nothing more.
async fn speaker() -> (Backend, Arc<Semaphore>) {
    let words = Arc::new(Semaphore::new(0));
    let said = Arc::clone(&words);
    let backend = Backend::raw(move |mut stream, _| {
        let said = Arc::clone(&said);
        async move {
            stream.write_all(SWITCHED).await.unwrap();
            while let Ok(permit) = said.acquire().await {
                permit.forget();
                if stream.write_all(b"word").await.is_err() {
                    return;
                }
            }
        }
    })
    .await;
    (backend, words)
}

async fn tunnel(rig: &Rig) -> Client {
    let mut client = rig.client().await;
    let head = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    client.send(head).await;
    assert_eq!(client.answer().await.status, 101);
    client
}

async fn hear(client: &mut Client) {
    let mut word = [0_u8; 4];
    within("a word", client.stream.read_exact(&mut word)).await.unwrap();
    assert_eq!(&word, b"word");
}

#[tokio::test]
async fn a_client_that_has_said_all_hears_the_rest() {
    let (backend, words) = speaker().await;
    let rig = Rig::start(&[backend.address]).await;
    let mut client = tunnel(&rig).await;
    client.half_close().await;
    for _ in 0..3 {
        // The passing of time is what is tested: the end is known by then.
        tokio::time::sleep(Duration::from_millis(300)).await;
        words.add_permits(1);
        hear(&mut client).await;
    }
    words.close();
    assert_eq!(client.closed().await, Ok(()));
}

#[tokio::test]
async fn a_backend_with_nothing_more_to_say_is_not_waited_for() {
    let (backend, words) = speaker().await;
    let rig = Rig::start(&[backend.address]).await;
    let mut client = tunnel(&rig).await;
    client.half_close().await;
    words.add_permits(1);
    hear(&mut client).await;
    assert_eq!(client.closed().await, Ok(()), "although the backend keeps its end open");
}

#[tokio::test]
async fn listeners_that_take_an_end_for_a_farewell_end_the_tunnel() {
    let (backend, words) = speaker().await;
    let policy = foreshadow_proxy::UpstreamPolicy::default();
    let rig = Rig::tuned(policy, &[backend.address], |spec| spec.abort_on_close = true).await;
    let mut client = tunnel(&rig).await;
    client.stream.shutdown().await.unwrap();
    // A backend that goes on speaking keeps any other tunnel open.
    let talk = async {
        loop {
            words.add_permits(1);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let hear = async {
        let mut heard = [0_u8; 64];
        while matches!(client.stream.read(&mut heard).await, Ok(1..)) {}
    };
    within("the end of the tunnel", async {
        tokio::select! {
            () = talk => {}
            () = hear => {}
        }
    })
    .await;
}
