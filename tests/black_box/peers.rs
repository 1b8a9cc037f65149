//! Servers that others wrote as backends: through the node, curl must see what it sees directly.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Node, Process, eventually, free_address};

/// Fields that belong to one hop, or say that there was another.
const OF_A_HOP: [&str; 4] = ["connection", "keep-alive", "transfer-encoding", "via"];

/// A path, options of curl, and the status of the answer.
type Case<'a> = (&'a str, &'a [&'a str], &'a str);

/// What any server of the same files answers to.
const ANY_SERVER: [Case; 6] = [
    ("/page.html", &[], "200"),
    ("/page.html", &["-I"], "200"),
    ("/page.html", &["--http1.0"], "200"),
    ("/shelf/", &[], "200"),
    ("/shelf", &[], "301"),
    ("/missing", &[], "404"),
];

/// Bytes of the large file.
const LARGE: usize = 50 << 20;

/// A server behind the node, with its own copy of what it serves.
struct Peer {
    // Before the files: it ends first.
    _process: Process,
    address: SocketAddr,
    served: PathBuf,
    _root: tempfile::TempDir,
}

/// Puts a page and a directory into `root`.
fn fill(root: &Path) {
    std::fs::write(root.join("page.html"), "<p>Grüße\n".repeat(200)).unwrap();
    std::fs::create_dir(root.join("shelf")).unwrap();
    std::fs::write(root.join("shelf/one two.txt"), "1, 2").unwrap();
}

/// A large file of which no two pages are the same.
fn fill_large(path: &Path) {
    let mut bytes = vec![b'.'; LARGE];
    for (number, page) in bytes.chunks_mut(4096).enumerate() {
        page[..8].copy_from_slice(&number.to_be_bytes());
    }
    std::fs::write(path, bytes).unwrap();
}

impl Peer {
    fn spawn(
        root: tempfile::TempDir,
        served: PathBuf,
        address: SocketAddr,
        command: Command,
    ) -> Self {
        let process = Process::spawn(command);
        eventually("the peer to listen", || TcpStream::connect(address).ok());
        Self { _process: process, address, served, _root: root }
    }

    /// python's `http.server`: HTTP/1.0, one connection per request, `GET` and `HEAD` only.
    fn python() -> Self {
        let (root, address) = (tempfile::tempdir().unwrap(), free_address());
        fill(root.path());
        let mut command = Command::new("python3");
        command.args(["-u", "-m", "http.server", "--bind", "127.0.0.1", "--directory"]);
        command.arg(root.path()).arg(address.port().to_string());
        let served = root.path().to_owned();
        Self::spawn(root, served, address, command)
    }

    /// nginx as one process in the foreground, all its files in one scratch directory.
    fn nginx() -> Self {
        let (root, address) = (tempfile::tempdir().unwrap(), free_address());
        let served = root.path().join("served");
        std::fs::create_dir(&served).unwrap();
        fill(&served);
        let mut temporary = String::new();
        for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
            writeln!(temporary, "{kind}_temp_path {kind};").unwrap();
        }
        let config = format!(
            "daemon off; master_process off; pid nginx.pid; error_log stderr crit;
             events {{}}
             http {{
               access_log off; {temporary}
               types {{ text/html html; application/octet-stream bin; }}
               server {{
                 listen {address};
                 root {served};
                 client_max_body_size 200k;
                 location / {{ autoindex on; add_header Set-Cookie a=1; add_header Set-Cookie b=2; }}
                 location = /connection {{ return 200 \"$connection $connection_requests\"; }}
                 location = /upload {{ return 200 \"$request_method $http_transfer_encoding\"; }}
                 location = /echo {{ client_body_in_single_buffer on; proxy_pass http://{address}/upload; }}
                 location = /moved {{ return 301 /page.html; }}
                 location = /nothing {{ return 204; }}
               }}
             }}",
            served = served.display(),
        );
        let path = root.path().join("nginx.conf");
        std::fs::write(&path, config).unwrap();
        let program = ["/usr/sbin/nginx", "/usr/local/sbin/nginx", "/opt/homebrew/bin/nginx"]
            .into_iter()
            .find(|path| Path::new(path).exists())
            .unwrap_or("nginx");
        let found = Command::new(program).arg("-v").output().is_ok();
        assert!(found, "nginx is missing; scripts/setup.sh test installs it or says how");
        let mut command = Command::new(program);
        command.arg("-p").arg(root.path()).arg("-c").arg(&path);
        Self::spawn(root, served, address, command)
    }

    fn node(&self) -> Node {
        Node::start(&format!("  shop:\n    primaries: [{}]\n", self.address))
    }

    /// Asks directly and through `node` and gives both answers.
    fn both(&self, node: &Node, path: &str, options: &[&str]) -> (Fetched, Fetched) {
        (curl(self.address, path, options), curl(node.proxy, path, options))
    }

    /// Fails unless the answer through the node is the direct one; gives that.
    fn assert_same(&self, node: &Node, path: &str, options: &[&str]) -> Fetched {
        let (direct, proxied) = self.both(node, path, options);
        assert_eq!(proxied.status, direct.status, "{path} {options:?}");
        assert_eq!(proxied.end_to_end(), direct.end_to_end(), "{path} {options:?}");
        assert!(proxied.body == direct.body, "{path} {options:?}: the bodies differ");
        assert!(proxied.header("via").is_some_and(|via| via.ends_with("foreshadow")));
        direct
    }

    /// The same for each case, with the status it has.
    fn assert_all_same(&self, node: &Node, cases: &[Case]) {
        for (path, options, status) in ANY_SERVER.iter().chain(cases) {
            assert_eq!(self.assert_same(node, path, options).status, *status, "{path} {options:?}");
        }
    }
}

/// What curl got.
struct Fetched {
    status: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Fetched {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The fields that must arrive as they were sent; of the date, only that there is one.
    fn end_to_end(&self) -> Vec<(&str, &str)> {
        let ours = self.headers.iter().filter(|(name, _)| !OF_A_HOP.contains(&name.as_str()));
        let mut fields: Vec<_> = ours
            .map(|(name, value)| (name.as_str(), if name == "date" { "some" } else { value }))
            .collect();
        // Stable: values of one name keep their order.
        fields.sort_by_key(|(name, _)| *name);
        fields
    }
}

fn curl(address: SocketAddr, path: &str, options: &[&str]) -> Fetched {
    let scratch = tempfile::tempdir().unwrap();
    let (head, body) = (scratch.path().join("head"), scratch.path().join("body"));
    let output = Command::new("curl")
        .args(["-sS", "--max-time", "20", "-D"])
        .arg(&head)
        .arg("-o")
        .arg(&body)
        .args(options)
        // The same to both: a backend may well answer with the host it was asked for.
        .args(["-H", "Host: shop.example", "-w", "%{http_code}"])
        .arg(format!("http://{address}{path}"))
        .output()
        .expect("curl is missing; scripts/setup.sh test installs it or says how");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{address}{path} {options:?}: {complaint}");
    let text = String::from_utf8(std::fs::read(&head).unwrap()).unwrap();
    // The last head is the final one; any before it is a 100.
    let last = text.trim_end().rsplit("\r\n\r\n").next().unwrap();
    let headers = last.lines().skip(1).filter_map(|line| line.split_once(':'));
    Fetched {
        status: String::from_utf8(output.stdout).unwrap(),
        headers: headers.map(|(k, v)| (k.to_lowercase(), v.trim().to_owned())).collect(),
        // Of an answer to HEAD, curl writes the head in place of the body.
        body: if options.contains(&"-I") {
            Vec::new()
        } else {
            std::fs::read(&body).unwrap_or_default()
        },
    }
}

#[test]
fn python_answers_through_the_node_as_it_does_directly() {
    let python = Peer::python();
    let node = python.node();
    let own: [Case; 4] = [
        ("/shelf/one%20two.txt", &[], "200"),
        ("/page.html?a=1&b=%2F", &["-r", "100-199"], "200"),
        ("/page.html", &["-d", "form=1"], "501"),
        ("/page.html", &["-X", "DELETE"], "501"),
    ];
    python.assert_all_same(&node, &own);
    let page = std::fs::read(python.served.join("page.html")).unwrap();
    let since = python.assert_same(&node, "/page.html", &[]);
    assert!(since.body == page);
    let condition = format!("If-Modified-Since: {}", since.header("last-modified").unwrap());
    assert_eq!(python.assert_same(&node, "/page.html", &["-H", &condition]).status, "304");
}

#[test]
fn nginx_answers_through_the_node_as_it_does_directly() {
    let nginx = Peer::nginx();
    let node = nginx.node();
    let own: [Case; 7] = [
        ("/moved", &[], "301"),
        ("/nothing", &[], "204"),
        ("/page.html", &["-r", "100-199"], "206"),
        ("/page.html", &["-r", "99999-"], "416"),
        ("/missing", &["-I"], "404"),
        ("/page.html", &["-X", "DELETE"], "405"),
        ("/page.html", &["-X", "OPTIONS"], "405"),
    ];
    nginx.assert_all_same(&node, &own);
    // The boundary of a multipart answer is new each time; the length is not.
    let (direct, proxied) = nginx.both(&node, "/page.html", &["-r", "0-1,5-6"]);
    assert_eq!((direct.status.as_str(), proxied.status.as_str()), ("206", "206"));
    assert_eq!(proxied.body.len(), direct.body.len());
    let page = nginx.assert_same(&node, "/page.html", &["-r", "100-199"]);
    assert_eq!(page.body.len(), 100);
    let whole = nginx.assert_same(&node, "/page.html", &[]);
    let cookies = whole.headers.iter().filter(|(name, _)| name == "set-cookie");
    assert_eq!(cookies.count(), 2, "two fields of one name stay two");
    let condition = format!("If-None-Match: {}", whole.header("etag").unwrap());
    assert_eq!(nginx.assert_same(&node, "/page.html", &["-H", &condition]).status, "304");
}

#[test]
fn large_files_arrive_whole() {
    for peer in [Peer::python(), Peer::nginx()] {
        fill_large(&peer.served.join("large.bin"));
        let node = peer.node();
        let direct = peer.assert_same(&node, "/large.bin", &[]);
        assert_eq!(direct.body.len(), LARGE);
    }
}

#[test]
fn uploads_are_taken_and_refused_as_by_nginx_itself() {
    let nginx = Peer::nginx();
    let node = nginx.node();
    let small = nginx.served.join("small");
    let big = nginx.served.join("big");
    std::fs::write(&small, vec![b'x'; 150 << 10]).unwrap();
    std::fs::write(&big, vec![b'x'; 2 << 20]).unwrap();
    let (small, big) = (format!("@{}", small.display()), format!("@{}", big.display()));
    let chunked = "Transfer-Encoding: chunked";
    for (path, options, status, said) in [
        ("/upload", &["--data-binary", small.as_str()][..], "200", "POST "),
        ("/upload", &["-H", chunked, "--data-binary", &small], "200", "POST chunked"),
        ("/upload", &["-X", "PUT", "-H", chunked, "--data-binary", &small], "200", "PUT chunked"),
        ("/echo", &["-H", chunked, "--data-binary", &small], "200", "POST "),
        ("/upload", &["-H", "Expect: 100-continue", "-d", "x=1"], "200", "POST "),
        ("/upload", &["--data-binary", &big], "413", ""),
        ("/page.html", &["-H", chunked, "--data-binary", &small], "405", ""),
    ] {
        let direct = nginx.assert_same(&node, path, options);
        assert_eq!(direct.status, status, "{path} {options:?}");
        let text = String::from_utf8_lossy(&direct.body);
        assert!(said.is_empty() || text == said, "{path} {options:?}: {text}");
    }
}

#[test]
fn connections_to_nginx_are_kept_and_shared() {
    let nginx = Peer::nginx();
    let node = nginx.node();
    let workers = std::thread::available_parallelism().unwrap().get();
    let requests = 8 * workers;
    let mut connections = BTreeSet::new();
    for _ in 0..requests {
        let answer = node.get("/connection");
        assert_eq!(answer.status, 200, "{}", answer.text());
        connections.insert(answer.text().split(' ').next().unwrap().to_owned());
    }
    // Each client came on a connection of its own; each worker keeps one to the backend.
    assert!(
        connections.len() <= workers,
        "{requests} requests one after another used {} connections, {workers} workers keep one each",
        connections.len()
    );
}
