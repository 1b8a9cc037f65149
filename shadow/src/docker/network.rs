//! The networks of containers: those of the primary, and the one that keeps shadows apart.

use std::collections::BTreeMap;
use std::time::Duration;

use bollard::Docker;
use bollard::models::{
    ContainerInspectResponse, EndpointSettings, NetworkConnectRequest, NetworkCreateRequest,
    NetworkDisconnectRequest,
};
use foreshadow_control::{InstanceId, ServiceName};

use super::body;
use super::engine::{ASIDE, Engine};
use super::spec::NetworkSpec;
use super::told::Trouble;
use crate::error::{Cause, ProviderError};

/// Networks of the engine's own in which nothing has aliases.
const PLAIN: [&str; 3] = ["bridge", "host", "none"];

/// Networks by name, with the aliases that a container has there.
pub(super) type Joined = BTreeMap<String, Vec<String>>;

/// The networks and aliases that an instance has once it is activated, as far as settings say.
pub(super) fn configured(spec: &NetworkSpec) -> Joined {
    spec.names.iter().map(|name| (name.clone(), aliases(name, &spec.aliases))).collect()
}

/// Adds what a primary has.
pub(super) fn with_primary(
    joined: &mut Joined,
    spec: &NetworkSpec,
    primary: &ContainerInspectResponse,
) {
    let id = primary.id.as_deref().unwrap_or_default();
    let networks = primary.network_settings.as_ref().and_then(|all| all.networks.as_ref());
    for (name, endpoint) in networks.into_iter().flatten() {
        let own = endpoint.aliases.iter().flatten();
        // Engines before API 1.45 show the container's short id among them.
        let own = own.filter(|alias| alias.is_empty() || !id.starts_with(alias.as_str()));
        let all: Vec<String> = own.chain(&spec.aliases).cloned().collect();
        let entry = joined.entry(name.clone()).or_default();
        entry.extend(aliases(name, &all));
        entry.sort_unstable();
        entry.dedup();
    }
}

fn aliases(network: &str, wanted: &[String]) -> Vec<String> {
    if PLAIN.contains(&network) { Vec::new() } else { wanted.to_vec() }
}

impl Engine {
    /// What is known of a container by that name or id.
    pub(super) async fn inspect(
        &self,
        container: &str,
        patience: Duration,
    ) -> Result<ContainerInspectResponse, Trouble> {
        self.call(patience, |docker: Docker| async move {
            docker.inspect_container(container, None).await
        })
        .await
    }

    /// The networks that an instance is in once activated.
    pub(super) async fn wanted_networks(
        &self,
        spec: &NetworkSpec,
        patience: Duration,
    ) -> Result<Joined, ProviderError> {
        let mut joined = configured(spec);
        if let Some(name) = &spec.mirror {
            let asked = || self.asked(format_args!("show the primary's container {name}"));
            let primary = self.inspect(name, patience).await.map_err(|t| t.told(asked()))?;
            with_primary(&mut joined, spec, &primary);
            if joined.contains_key("host") {
                let came_back = "it is in the network of its host, which cannot be mirrored; \
                                 give `networks` instead of `mirror`";
                let came_back = came_back.to_owned();
                return Err(ProviderError::Refused {
                    cause: Cause::Absent,
                    asked: asked(),
                    came_back,
                });
            }
        }
        Ok(joined)
    }

    /// Makes the internal network of a service where it is not there, and keeps it for `id`.
    pub(super) async fn isolate(
        &self,
        service: &ServiceName,
        id: InstanceId,
        patience: Duration,
    ) -> Result<String, ProviderError> {
        let name = body::isolation_name(&self.owner, service);
        let mut needed = self.networks.lock().await;
        needed.entry(name.clone()).or_default().insert(id);
        let found = self.call(patience, |docker| {
            let name = name.clone();
            async move { docker.inspect_network(&name, None).await }
        });
        match found.await {
            Ok(_) => return Ok(name),
            Err(trouble) if trouble.is_absent() => {}
            Err(trouble) => {
                return Err(trouble.told(self.asked(format_args!("show network {name}"))));
            }
        }
        let request = NetworkCreateRequest {
            name: name.clone(),
            internal: Some(true),
            labels: Some(body::labels(&self.owner, "network", service.as_str())),
            ..NetworkCreateRequest::default()
        };
        self.call(patience, |docker| async move { docker.create_network(request).await })
            .await
            .map_err(|t| t.told(self.asked(format_args!("make the internal network {name}"))))?;
        Ok(name)
    }

    /// Keeps the network of one that was taken over.
    pub(super) async fn keep_network(&self, name: &str, id: InstanceId) {
        self.networks.lock().await.entry(name.to_owned()).or_default().insert(id);
    }

    /// Gives up the network of one that is gone; the last one takes it away.
    pub(super) async fn leave_network(&self, id: InstanceId) -> Result<(), ProviderError> {
        let mut needed = self.networks.lock().await;
        let mut empty = Vec::new();
        needed.retain(|name, users| {
            let left = users.remove(&id) && users.is_empty();
            if left {
                empty.push(name.clone());
            }
            !left
        });
        for name in empty {
            self.drop_network(&name).await?;
        }
        Ok(())
    }

    /// Removes a network, unless something is in it.
    pub(super) async fn drop_network(&self, name: &str) -> Result<(), ProviderError> {
        let removed =
            self.call(ASIDE, |docker| async move { docker.remove_network(name).await }).await;
        match removed {
            Ok(()) => Ok(()),
            Err(trouble) if trouble.is_absent() || trouble.has_endpoints() => Ok(()),
            Err(trouble) => Err(trouble.told(self.asked(format_args!("remove network {name}")))),
        }
    }

    /// Puts a container into a network; one that is there is left as it is.
    pub(super) async fn join(
        &self,
        container: &str,
        network: &str,
        aliases: &[String],
        patience: Duration,
    ) -> Result<(), ProviderError> {
        let endpoint = EndpointSettings {
            aliases: (!aliases.is_empty()).then(|| aliases.to_vec()),
            ..EndpointSettings::default()
        };
        let request = NetworkConnectRequest {
            container: container.to_owned(),
            endpoint_config: Some(endpoint),
        };
        let joined = self
            .call(patience, |docker| async move { docker.connect_network(network, request).await });
        match joined.await {
            Ok(()) => Ok(()),
            Err(trouble) if trouble.is_in_network() => Ok(()),
            Err(trouble) => Err(trouble.told(
                self.asked(format_args!("connect container {container} to network {network}")),
            )),
        }
    }

    /// Takes a container out of every network but `stays`.
    pub(super) async fn part(
        &self,
        container: &str,
        stays: &str,
        patience: Duration,
    ) -> Result<(), ProviderError> {
        let found = self.inspect(container, patience).await;
        let found =
            found.map_err(|t| t.told(self.asked(format_args!("show container {container}"))))?;
        let networks = found.network_settings.and_then(|all| all.networks).unwrap_or_default();
        for network in networks.into_keys().filter(|name| name != stays) {
            let request =
                NetworkDisconnectRequest { container: container.to_owned(), force: Some(false) };
            let parted = self.call(patience, |docker| {
                let network = network.clone();
                async move { docker.disconnect_network(&network, request).await }
            });
            match parted.await {
                Ok(()) => {}
                Err(trouble) if trouble.is_not_in_network() => {}
                Err(trouble) => {
                    let what =
                        format_args!("disconnect container {container} from network {network}");
                    return Err(trouble.told(self.asked(what)));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn primary() -> ContainerInspectResponse {
        serde_json::from_value(serde_json::json!({
            "Id": "4bc28572b8e052fd",
            "NetworkSettings": { "Networks": {
                "front": { "Aliases": ["shop", "4bc28572b8e0"] },
                "back": { "Aliases": null },
                "bridge": { "Aliases": null }
            } }
        }))
        .unwrap()
    }

    #[test]
    fn networks_and_aliases_of_a_primary_are_mirrored_without_its_id() {
        let spec = NetworkSpec {
            names: vec!["extra".to_owned(), "back".to_owned()],
            aliases: vec!["web".to_owned()],
            mirror: Some("primary".to_owned()),
            isolate: true,
        };
        let mut joined = configured(&spec);
        with_primary(&mut joined, &spec, &primary());
        let expected: [(&str, &[&str]); 4] =
            [("back", &["web"]), ("bridge", &[]), ("extra", &["web"]), ("front", &["shop", "web"])];
        let expected = expected.map(|(name, aliases)| {
            (name.to_owned(), aliases.iter().map(|a| (*a).to_owned()).collect::<Vec<_>>())
        });
        assert_eq!(joined, Joined::from(expected));
    }
}
