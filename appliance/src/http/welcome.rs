//! The page of an appliance without a configuration: what it is, and how to give it one. It reveals and takes nothing.

use super::connections::Server;
use super::limits::Limits;
use super::{assets, problem};
use axum::Router;
use axum::http::{StatusCode, Uri};
use axum::response::Html;
use axum::routing::get;
use maud::{DOCTYPE, Markup, html};
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// The least that serves something: copied, changed, handed over.
const SAMPLE: &str = r#"[data-plane]
interfaces = ["en*"]

[bgp]
asn = 64512
router-id = "192.0.2.2"

[[bgp.peer]]
address = "192.0.2.1"
asn = 64513

[[service]]
name = "web"
vips = ["203.0.113.10"]
port = 80
protocol = "tcp"

[[service.backend]]
address = "192.0.2.11"
port = 8080"#;

const CREDENTIAL: &str =
    "-smbios type=11,value=io.systemd.credential.binary:sluice.config=$(base64 -w0 sluice.toml)
-fw_cfg name=opt/io.systemd.credentials/sluice.config,file=sluice.toml";

const CIDATA: &str = "xorriso -as mkisofs -V CIDATA -J -r -o seed.iso DIRECTORY";

/// Serves the page until the process ends.
///
/// # Errors
/// When the listener fails.
pub(crate) async fn serve(listener: TcpListener) -> std::io::Result<()> {
    let server = Server {
        router: router(),
        limits: Limits::outside(),
        counts: Arc::default(),
        shutdown: CancellationToken::new(),
    };
    server.serve(listener, || None).await
}

fn router() -> Router {
    Router::new()
        .route("/", get(async || Html(page().into_string())))
        .route("/assets/{name}", get(assets::asset))
        // Load balancers and monitors ask these; an appliance without a configuration serves nobody.
        .route("/healthz", get(async || "alive\n"))
        .route("/readyz", get(not_ready))
        .fallback(|uri: Uri| async move { problem::not_found(&uri) })
        .layer(axum::middleware::from_fn(super::guard::headers))
}

async fn not_ready(uri: Uri) -> axum::response::Response {
    problem::answer(StatusCode::SERVICE_UNAVAILABLE, &uri, "this appliance has no configuration")
}

fn page() -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                title { "Sluice: not configured" }
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                link rel="icon" type="image/svg+xml" href="/assets/icon.svg";
                link rel="stylesheet" href="/assets/style.css";
            }
            body {
                header.bar {
                    div.identity {
                        h1 { "Sluice " (env!("CARGO_PKG_VERSION")) }
                        span { "has no configuration yet" }
                    }
                }
                main {
                    (panel("Write a sluice.toml", "With VIPs, backends and routers of yours; `sluice check` finds every mistake in it.", SAMPLE))
                    (panel("Hand it over as a credential", "QEMU; libvirt takes it as <oemStrings>, Proxmox in `args`.", CREDENTIAL))
                    (panel("Or on a disk labelled CIDATA", "With sluice.toml, and as you need them authorized_keys, *.network, tls.crt, tls.key and tokens.", CIDATA))
                    (panel("Or on the state partition", "Put it into etc/ of the partition sluice-state of this machine's disk.", "mount /dev/disk/by-partlabel/sluice-state /mnt && cp sluice.toml /mnt/etc/"))
                    section.panel { div.empty { "Then restart the appliance. SSH is off until it is given authorized_keys in one of these ways; there is no password." } }
                }
            }
        }
    }
}

fn panel(title: &str, text: &str, sample: &str) -> Markup {
    html! {
        section.panel {
            header.panel-head { h2 { (title) } }
            div.empty { (text) pre { (sample) } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    #[test]
    fn the_sample_is_a_configuration() {
        let parsed = config::parse(SAMPLE);
        assert!(parsed.is_ok(), "{parsed:?}");
    }

    #[test]
    fn the_page_names_every_way() {
        let page = page().into_string();
        for way in ["sluice.config", "CIDATA", "sluice-state", "authorized_keys"] {
            assert!(page.contains(way), "{way}");
        }
    }
}
