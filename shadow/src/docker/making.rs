//! Making a container, step by step, and taking one over.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bollard::models::ContainerInspectResponse;
use bollard::query_parameters::{CreateContainerOptionsBuilder, StartContainerOptions};
use foreshadow_control::InstanceId;

use super::network::Joined;
use super::spec::Pull;
use super::told::Trouble;
use super::{DockerProvider, State, body, usage, watching};
use crate::error::{Cause, ProviderError};
use crate::provider::{Adoption, CreateRequest, Handle};
use crate::remains::AT_START;

/// A pull may take so many times as long as an answer.
const PULL_TIMES: u32 = 10;

/// Why nothing was made.
pub(super) struct Failed {
    pub(super) error: ProviderError,
    /// Whether a container may be there, or come to be there, all the same.
    pub(super) may_be_there: bool,
}

impl From<ProviderError> for Failed {
    fn from(error: ProviderError) -> Self {
        Self { error, may_be_there: false }
    }
}

impl DockerProvider {
    pub(super) async fn make(&self, request: &CreateRequest) -> Result<Handle, Failed> {
        let (engine, timeout) = (&self.engine, self.spec.timeout);
        if self.spec.pull == Pull::Always && request.from.is_none() {
            self.pull().await?;
        }
        let joins = self.networks(None).await?;
        let isolation = match self.spec.network.isolate {
            true => Some(engine.isolate(&request.service, request.id, timeout).await?),
            false => None,
        };
        let first = isolation.as_ref().or_else(|| joins.keys().next());
        let container = self.create_container(request, first.map(String::as_str)).await?;
        let done = self.begin(request, &container, isolation, joins).await;
        done.map_err(|error| Failed { error, may_be_there: true })
    }

    /// The order itself; returns the engine's id of the container.
    async fn create_container(
        &self,
        request: &CreateRequest,
        network: Option<&str>,
    ) -> Result<String, Failed> {
        let engine = &self.engine;
        let name = body::container_name(&engine.owner, request.id);
        let body = body::create(&self.spec, &engine.owner, request, network);
        let image = body.image.clone().unwrap_or_default();
        let (mut may_pull, mut may_clear) =
            (self.spec.pull != Pull::Never && request.from.is_none(), true);
        loop {
            let options = CreateContainerOptionsBuilder::new().name(&name).build();
            let order = body.clone();
            let made = engine.call(self.spec.timeout, |docker| async move {
                docker.create_container(Some(options), order).await
            });
            let trouble = match made.await {
                Ok(made) => return Ok(made.id),
                Err(trouble) => trouble,
            };
            if trouble.is_missing_image() && std::mem::take(&mut may_pull) {
                self.pull().await?;
                continue;
            }
            if trouble.is_name_taken()
                && std::mem::take(&mut may_clear)
                && self.clear(&name).await?
            {
                continue;
            }
            let may_be_there = trouble.may_have_acted();
            let what = format_args!("create container {name} of image {image}");
            return Err(Failed { error: trouble.told(engine.asked(what)), may_be_there });
        }
    }

    /// Removes what has the name of a new container, if it is of an order of ours that came to
    /// nothing; says whether it was.
    async fn clear(&self, name: &str) -> Result<bool, ProviderError> {
        let found = match self.engine.inspect(name, self.spec.timeout).await {
            Ok(found) => found,
            Err(trouble) if trouble.is_absent() => return Ok(true),
            Err(trouble) => {
                return Err(trouble.told(self.engine.asked(format_args!("show container {name}"))));
            }
        };
        let labels = found.config.and_then(|config| config.labels).unwrap_or_default();
        if labels.get(body::OWNER) != Some(&self.engine.owner) {
            return Ok(false);
        }
        self.engine.remove(name, self.spec.timeout).await?;
        Ok(true)
    }

    /// From a container that was made to one that runs and is watched.
    async fn begin(
        &self,
        request: &CreateRequest,
        container: &str,
        isolation: Option<String>,
        joins: Joined,
    ) -> Result<Handle, ProviderError> {
        let (engine, timeout) = (&self.engine, self.spec.timeout);
        if isolation.is_none() {
            // An alias would lead callers to an instance that is parked.
            for network in joins.keys().skip(1) {
                engine.join(container, network, &[], timeout).await?;
            }
        }
        let started = engine.call(timeout, |docker| async move {
            docker.start_container(container, None::<StartContainerOptions>).await
        });
        let name = body::container_name(&engine.owner, request.id);
        started.await.map_err(|t| t.told(engine.asked(format_args!("start container {name}"))))?;
        let found = engine.inspect(container, timeout).await;
        let found =
            found.map_err(|t| t.told(engine.asked(format_args!("show container {name}"))))?;
        let refused = |cause, came_back| ProviderError::Refused {
            cause,
            asked: engine.asked(format_args!("start container {name}")),
            came_back,
        };
        if !runs(&found) {
            let words = self.last_words(container).await;
            let said = if words.is_empty() { "nothing".to_owned() } else { words.join(" | ") };
            let text = format!("it {} at once; it wrote: {said}", how_ended(&found));
            return Err(refused(Cause::Failed, text));
        }
        let first = isolation.as_deref().or_else(|| joins.keys().next().map(String::as_str));
        let address = self.address(&found, first).await;
        let address = address.map_err(|why| refused(Cause::Absent, why))?;
        let state = State {
            place: engine.place.clone(),
            container: container.to_owned(),
            isolation,
            joins,
        };
        let state =
            serde_json::to_string(&state).map_err(|e| ProviderError::Other(e.to_string()))?;
        let pid = self.pid(&found);
        self.watch(request.id, container);
        Ok(Handle { id: request.id, service: request.service.clone(), address, pid, state })
    }

    /// Fetches the image.
    async fn pull(&self) -> Result<(), ProviderError> {
        let image = body::tagged(&self.spec.image);
        let pulled = self.engine.pull(&image, self.spec.timeout * PULL_TIMES);
        pulled.await.map_err(|t| t.told(self.engine.asked(format_args!("pull image {image}"))))
    }

    /// Where the instance is reached.
    async fn address(
        &self,
        found: &ContainerInspectResponse,
        network: Option<&str>,
    ) -> Result<SocketAddr, String> {
        let port = self.spec.port;
        let settings = found.network_settings.as_ref().ok_or("it has no network")?;
        let Some(published) = self.spec.publish else {
            let networks = settings.networks.iter().flatten();
            let endpoint =
                networks.filter(|(name, _)| network.is_none_or(|wanted| wanted == *name));
            let ip = endpoint.into_iter().find_map(|(_, endpoint)| {
                let ips = [&endpoint.ip_address, &endpoint.global_ipv6_address];
                ips.into_iter().flatten().find_map(|ip| ip.parse::<IpAddr>().ok())
            });
            let place = network.map_or_else(String::new, |name| format!(" in network {name}"));
            let ip = ip.ok_or_else(|| {
                format!("it has no address{place}; name a network of the bridge kind, or `publish`")
            })?;
            return Ok(SocketAddr::new(ip, port));
        };
        let ports = settings.ports.as_ref().and_then(|all| all.get(&format!("{port}/tcp")));
        let bindings = ports.and_then(Option::as_ref).into_iter().flatten();
        let host_port = bindings
            .filter_map(|binding| binding.host_port.as_ref()?.parse().ok())
            .find(|port: &u16| *port > 0);
        let host_port = host_port
            .ok_or_else(|| format!("its port {port} is not published; is its network internal?"))?;
        if !published.is_unspecified() {
            return Ok(SocketAddr::new(published, host_port));
        }
        let Some(host) = self.engine.host() else {
            return Ok(SocketAddr::new(loopback(published), host_port));
        };
        let found = tokio::net::lookup_host((host.trim_matches(['[', ']']), host_port))
            .await
            .map_err(|error| format!("the engine's host {host} has no address: {error}"))?;
        same_kind(published, found).ok_or_else(|| {
            format!("the engine's host {host} has no address of the kind of `publish: {published}`")
        })
    }

    /// Its process, where that is on this machine and in view.
    fn pid(&self, found: &ContainerInspectResponse) -> Option<u32> {
        let pid = u32::try_from(found.state.as_ref()?.pid?).ok().filter(|pid| *pid > 0)?;
        let is_it = self.engine.is_local() && usage::belongs(pid, found.id.as_deref()?);
        is_it.then_some(pid)
    }

    pub(super) async fn take_over(
        &self,
        handle: &Handle,
        state: State,
    ) -> Result<Adoption, ProviderError> {
        let elsewhere = state.place != self.engine.place;
        let patience = self.spec.timeout.min(AT_START);
        let found = match self.engine.inspect(&state.container, patience).await {
            Ok(found) => found,
            Err(trouble) if trouble.is_absent() && !elsewhere => {
                return Ok(Adoption::Gone("its engine does not know its container".to_owned()));
            }
            Err(trouble) if trouble.is_absent() => {
                return Ok(Adoption::OutOfReach(
                    "another engine than the one configured now made it; set `endpoint` back for \
                     one more start, or end it by hand"
                        .to_owned(),
                ));
            }
            Err(trouble) => return Ok(self.unseen(handle, &state, elsewhere, trouble).await),
        };
        if !runs(&found) {
            return Ok(Adoption::Gone(how_ended(&found)));
        }
        let first = state.isolation.as_deref();
        let first = first.or_else(|| state.joins.keys().next().map(String::as_str));
        match self.address(&found, first).await {
            Ok(address) if address == handle.address => {
                self.hold(handle.id, &state).await;
                Ok(Adoption::Running)
            }
            Ok(address) => {
                Ok(Adoption::Gone(format!("its address was {}, now {address}", handle.address)))
            }
            Err(why) => Ok(Adoption::Gone(why)),
        }
    }

    /// The engine did not say whether it runs.
    async fn unseen(
        &self,
        handle: &Handle,
        state: &State,
        elsewhere: bool,
        trouble: Trouble,
    ) -> Adoption {
        let error =
            trouble.told(self.engine.asked(format_args!("show container of {}", handle.id)));
        if elsewhere {
            return Adoption::OutOfReach(error.to_string());
        }
        // It ran when it was last seen; its health check and the next look will tell.
        tracing::warn!(instance = %handle.id, %error, "taken over unseen");
        self.hold(handle.id, state).await;
        Adoption::Running
    }

    async fn hold(&self, id: InstanceId, state: &State) {
        self.engine.mine.add(id);
        if let Some(isolation) = &state.isolation {
            self.engine.keep_network(isolation, id).await;
        }
        self.watch(id, &state.container);
    }
}

/// Whether a container has a process, paused or not.
fn runs(found: &ContainerInspectResponse) -> bool {
    found.state.as_ref().is_some_and(|state| state.running == Some(true))
}

/// How a container ended, in words.
fn how_ended(found: &ContainerInspectResponse) -> String {
    let Some(state) = &found.state else { return "ended".to_owned() };
    let code = state.exit_code.map(|code| code.to_string());
    let how = watching::ending(code.as_deref(), state.oom_killed == Some(true));
    match state.error.as_deref().filter(|error| !error.is_empty()) {
        Some(error) => format!("{how}: {}", crate::remote::shorten(error, 200)),
        None => how,
    }
}

/// Where on this machine a port that is published at all addresses of a kind is reached: `::` has none of IPv4.
fn loopback(published: IpAddr) -> IpAddr {
    match published {
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    }
}

/// The first of a host's addresses at which a port is published.
fn same_kind(published: IpAddr, mut found: impl Iterator<Item = SocketAddr>) -> Option<SocketAddr> {
    found.find(|address| address.is_ipv4() == published.is_ipv4())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_looked_for_where_it_is_published() {
        let all = || ["[2001:db8::7]:80", "192.0.2.7:80"].map(|a| a.parse().unwrap()).into_iter();
        for (published, local, far) in [
            ("0.0.0.0", "127.0.0.1", Some("192.0.2.7:80")),
            ("::", "::1", Some("[2001:db8::7]:80")),
        ] {
            let published = published.parse().unwrap();
            assert_eq!(loopback(published).to_string(), local);
            let found = same_kind(published, all()).map(|address| address.to_string());
            assert_eq!(found.as_deref(), far);
        }
        assert_eq!(same_kind("::".parse().unwrap(), all().skip(1)), None);
    }
}
