//! ServiceInstance: what the front says of itself.

use crate::{
    call::{Call, Reply},
    fault::{Answer, Fault},
    inventory::Key,
    property_collector::content,
};
use wire::soap::encode::Encoder;

/// `RetrieveServiceContent`
pub(crate) fn content(call: &Call<'_>) -> Answer<Reply> {
    let mut out = Encoder::new();
    content::put_value(call, &mut out, "returnval", call.receiver, "content")?;
    Ok(Reply::Body(out.finish()))
}

/// `CurrentTime`
pub(crate) fn current_time(call: &Call<'_>) -> Answer<Reply> {
    let now = call.front.clock.now_ms();
    Ok(Reply::write(|out| out.time_leaf("returnval", now)))
}

/// `Reload`: facts are always current here, so there is nothing to do for an object that is there.
pub(crate) fn reload(call: &Call<'_>) -> Answer<Reply> {
    match call.receiver {
        Key::Fact(id, _) if call.catalog().record(id).is_some() => Ok(Reply::Void),
        _ => Err(Fault::not_found(call.this.clone())),
    }
}
