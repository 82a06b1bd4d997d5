//! The status page at `/`: rendered here and nowhere else, complete without a script.
//!
//! The page is a frame around fragments. The same functions render a fragment for the first document and for every
//! update; the script only puts what it is sent where it belongs. Rendering is pure: "now" is the snapshot's own
//! moment, its start plus its uptime.

use super::{App, assets, problem};
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::{Html, IntoResponse, Response};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sluice_api::Snapshot;
use std::collections::BTreeMap;

mod charts;
mod overview;
mod parts;
mod services;
mod side;

#[cfg(test)]
mod tests;

/// Renders one fragment.
type Render = fn(&Snapshot) -> Markup;

/// Where each fragment goes, by the id of the element it fills.
const PARTS: [(&str, Render); 9] = [
    ("header", overview::header),
    ("problems", overview::problems),
    ("figures", overview::figures),
    ("charts", charts::charts),
    ("services", services::services),
    ("bgp", side::bgp),
    ("vips", side::vips),
    ("links", side::links),
    ("drops", side::drops),
];

/// Every fragment of one snapshot, rendered.
pub(super) struct Fragments(BTreeMap<&'static str, String>);

/// Renders every fragment.
pub(super) fn fragments(snapshot: &Snapshot) -> Fragments {
    Fragments(PARTS.iter().map(|(id, render)| (*id, render(snapshot).into_string())).collect())
}

impl Fragments {
    /// Those that are not what was `sent` before; all of them when nothing was.
    pub(super) fn differing_from(&self, sent: Option<&Self>) -> BTreeMap<&'static str, &str> {
        self.0
            .iter()
            .filter(|(id, html)| sent.and_then(|sent| sent.0.get(*id)) != Some(html))
            .map(|(id, html)| (*id, html.as_str()))
            .collect()
    }

    fn get(&self, id: &str) -> PreEscaped<&str> {
        PreEscaped(self.0.get(id).map_or("", String::as_str))
    }
}

pub(super) async fn document(State(app): State<App>, headers: HeaderMap, uri: Uri) -> Response {
    match problem::refusal(&headers, &uri, "text/html") {
        None => Html(render(&app.snapshot()).into_string()).into_response(),
        Some(refusal) => refusal,
    }
}

fn render(snapshot: &Snapshot) -> Markup {
    let fragments = fragments(snapshot);
    html! {
        (DOCTYPE)
        html lang="en" data-assets=(assets::fingerprint()) {
            head {
                meta charset="utf-8";
                title { (overview::title(snapshot)) }
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                link rel="icon" type="image/svg+xml" href="/assets/icon.svg";
                link rel="stylesheet" href="/assets/style.css";
                script src="/assets/script.js" defer {}
                noscript { meta http-equiv="refresh" content="5"; }
            }
            body {
                (parts::sprite())
                a.skip href="#services" { "Skip to services" }
                header.bar {
                    div #header { (fragments.get("header")) }
                    p #live.live role="status" data-state="static" {
                        span.dot aria-hidden="true" {}
                        span #live-text { "static" }
                    }
                }
                main {
                    div #problems role="status" { (fragments.get("problems")) }
                    section #figures aria-label="Key figures" { (fragments.get("figures")) }
                    section #charts aria-label="Rates of the last two minutes" {
                        (fragments.get("charts"))
                    }
                    div.columns {
                        section #services.panel tabindex="-1" aria-labelledby="services-title" {
                            (fragments.get("services"))
                        }
                        div.side {
                            section #bgp.panel aria-labelledby="bgp-title" {
                                (fragments.get("bgp"))
                            }
                            section #vips.panel aria-labelledby="vips-title" {
                                (fragments.get("vips"))
                            }
                            section #links.panel aria-labelledby="links-title" {
                                (fragments.get("links"))
                            }
                            section #drops.panel aria-labelledby="drops-title" {
                                (fragments.get("drops"))
                            }
                        }
                    }
                }
                footer.foot {
                    a href="/api/v1/snapshot" { "Snapshot" }
                    a href="/api/v1/openapi.json" { "OpenAPI" }
                    a href="/metrics" { "Metrics" }
                    a href="/readyz" { "Readiness" }
                }
            }
        }
    }
}
