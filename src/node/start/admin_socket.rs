//! The admin interface: bound before anything is started, served at the end.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use foreshadow_config::{AdminAddress, Config};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::oneshot;

use crate::admin;
use crate::node::Shared;

/// The bound admin interface.
pub(super) enum AdminSocket {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

pub(super) struct AdminServer {
    pub(super) stop: Option<oneshot::Sender<()>>,
    pub(super) task: tokio::task::JoinHandle<()>,
    pub(super) unix_path: Option<PathBuf>,
}

pub(super) async fn bind_admin(address: &AdminAddress) -> anyhow::Result<AdminSocket> {
    match address {
        AdminAddress::Tcp(address) => {
            let listener = TcpListener::bind(address).await.with_context(|| {
                format!("cannot listen on {address} for the admin interface; set another `admin.address`")
            })?;
            Ok(AdminSocket::Tcp(listener))
        }
        AdminAddress::Unix(path) => {
            remove_stale_socket(path).await?;
            let listener = UnixListener::bind(path).with_context(|| {
                format!("cannot listen on unix:{} for the admin interface", path.display())
            })?;
            Ok(AdminSocket::Unix(listener, path.clone()))
        }
    }
}

/// A socket file nobody answers on is left from a crash; one that is answered is somebody's.
async fn remove_stale_socket(path: &PathBuf) -> anyhow::Result<()> {
    use std::os::unix::fs::FileTypeExt;
    let Ok(metadata) = std::fs::symlink_metadata(path) else { return Ok(()) };
    anyhow::ensure!(
        metadata.file_type().is_socket(),
        "{} is in the way of the admin socket and is not a socket",
        path.display()
    );
    let answered = tokio::net::UnixStream::connect(path).await.is_ok();
    anyhow::ensure!(!answered, "another process serves unix:{}", path.display());
    std::fs::remove_file(path)
        .with_context(|| format!("cannot remove the stale socket {}", path.display()))
}

pub(super) fn serve_admin(
    shared: &Arc<Shared>,
    socket: AdminSocket,
    config: &Config,
) -> AdminServer {
    let tokens = admin::Tokens::of(&config.admin);
    let hosts = match &socket {
        AdminSocket::Tcp(_) if tokens.is_empty() => admin::Hosts::Loopback,
        AdminSocket::Tcp(_) | AdminSocket::Unix(..) => admin::Hosts::Any,
    };
    let router = admin::router(Arc::clone(shared), tokens, hosts);
    let (stop, stopped) = oneshot::channel::<()>();
    let (task, unix_path) = match socket {
        AdminSocket::Tcp(listener) => (tokio::spawn(admin::serve(listener, router, stopped)), None),
        AdminSocket::Unix(listener, path) => {
            (tokio::spawn(admin::serve(listener, router, stopped)), Some(path))
        }
    };
    AdminServer { stop: Some(stop), task, unix_path }
}
