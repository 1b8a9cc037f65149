//! Fetching images: apart from all other calls, since it takes minutes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bollard::query_parameters::CreateImageOptionsBuilder;
use futures_util::StreamExt as _;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::engine::Engine;
use super::told::Trouble;

/// Images that an engine fetches at the same time for us.
const AT_ONCE: usize = 2;

/// When the newest pull of an image that worked was begun; held over a pull.
type Begun = tokio::sync::Mutex<Option<Instant>>;

/// The pulls of one engine.
pub(super) struct Pulls {
    turns: Semaphore,
    /// Of the images that are being fetched or waited for.
    images: Mutex<BTreeMap<String, Arc<Begun>>>,
}

impl Default for Pulls {
    fn default() -> Self {
        Self { turns: Semaphore::new(AT_ONCE), images: Mutex::default() }
    }
}

impl Pulls {
    fn of(&self, image: &str) -> Arc<Begun> {
        let mut images = self.images.lock().unwrap_or_else(PoisonError::into_inner);
        images.retain(|_, begun| Arc::strong_count(begun) > 1);
        Arc::clone(images.entry(image.to_owned()).or_default())
    }
}

impl Engine {
    /// Fetches an image, once for all who ask for it before that begins; its turn counts against
    /// `patience`.
    pub(super) async fn pull(&self, image: &str, patience: Duration) -> Result<(), Trouble> {
        let asked = Instant::now();
        let newest = self.pulls.of(image);
        let pulled = async {
            let mut newest = newest.lock().await;
            if newest.is_some_and(|begun| begun >= asked) {
                return Ok(());
            }
            let _turn = self.pulls.turns.acquire().await;
            let client = self.client().await?;
            let begun = Instant::now();
            tracing::info!(image, engine = self.name, "an image is being pulled");
            let options = CreateImageOptionsBuilder::new().from_image(image).build();
            let mut steps = std::pin::pin!(client.create_image(Some(options), None, None));
            while let Some(step) = steps.next().await {
                step.map_err(Trouble::from)?;
            }
            *newest = Some(begun);
            Ok(())
        };
        timeout(patience, pulled).await.unwrap_or(Err(Trouble::Late(patience)))
    }
}
