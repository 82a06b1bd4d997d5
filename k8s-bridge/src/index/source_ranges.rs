//! Who may reach a Service, as it says.

use super::live::Judge;
use super::vocabulary::shortened;
use super::{Trouble, trouble};
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Service;

const ANNOTATION: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";

/// Prefixes of one Service, joined as far as they can be. The data plane has room for 65,536 in all lists, and an object for
/// more than that: without a limit one of them could keep all others from changing.
const MAX_RANGES: usize = 4096;

/// One bad prefix refuses a Service that is new: leaving it out might open it to everybody. One that is on the air serves the
/// clients in its good ones, and is refused when it has none: nothing is open that was closed.
pub(super) fn source_ranges(service: &Service, judge: &mut Judge) -> Result<Vec<String>, Trouble> {
    let spec = service.spec.as_ref().and_then(|s| s.load_balancer_source_ranges.clone());
    let texts = spec.filter(|s| !s.is_empty()).unwrap_or_else(|| {
        let text = service.metadata.annotations.as_ref().and_then(|a| a.get(ANNOTATION));
        let text = text.map(|t| t.trim()).filter(|t| !t.is_empty());
        text.map(|t| t.split(',').map(str::to_owned).collect()).unwrap_or_default()
    });
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for text in &texts {
        match text.trim().parse::<IpNet>() {
            Ok(net) => good.push(net.trunc()),
            Err(_) => {
                let what = format!("{:?} is no CIDR", shortened(text, 100));
                bad.push(trouble("InvalidSourceRange", what));
            }
        }
    }
    for why in bad {
        if good.is_empty() {
            return Err(why);
        }
        judge.take(why)?;
    }
    if good.len() > MAX_RANGES {
        good = IpNet::aggregate(&good);
        good.sort_unstable();
    }
    if let Some(more) = good.len().checked_sub(MAX_RANGES).filter(|more| *more > 0) {
        let what = format!(
            "{more} source ranges are more than the {MAX_RANGES} that a Service may have; join some, or let others in at \
             the backends"
        );
        judge.take(trouble("TooManySourceRanges", what))?;
        good.truncate(MAX_RANGES);
    }
    Ok(good.iter().map(ToString::to_string).collect())
}
