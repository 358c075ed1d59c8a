//! `hyperglot watch`: what happens, as it happens, from the bus.

use crate::{Failure, config::Config, link::Link, say};
use bus::{CloudEvent, Delivery, Pattern};
use std::path::PathBuf;

/// Messages that may wait to be printed.
const QUEUE: usize = 4_096;

/// Prints messages on `subject`, one a line, until `count` or the end.
pub async fn run(config: Option<PathBuf>, subject: String, count: Option<u64>) -> Result<(), Failure> {
    let config = Config::load(config.as_deref())?;
    let bus = Link::join(&config).await?;
    let pattern = Pattern::parse(&subject).map_err(Failure::other)?;
    let mut messages = bus.subscribe(&pattern, QUEUE).await.map_err(Failure::other)?;
    eprintln!("watching {subject}");
    let mut left = count.unwrap_or(u64::MAX);
    while left > 0 {
        match messages.next().await {
            None => return Err(Failure::other("the bus closed the connection")),
            Some(Delivery::Lagged(0)) => eprintln!("(the bus was away: messages may be missing)"),
            Some(Delivery::Lagged(lost)) => eprintln!("(lost {lost} messages: this terminal is too slow)"),
            Some(Delivery::Message(message)) => {
                left -= 1;
                let body = String::from_utf8_lossy(&message.payload);
                match CloudEvent::read(&message) {
                    Some(event) => say::line(format_args!("{} {} {}", event.time, message.subject, body)),
                    None => say::line(format_args!("{} {}", message.subject, printable(&body))),
                }
            }
        }
    }
    Ok(())
}

/// Bodies that are not text are said by their size.
fn printable(body: &str) -> String {
    if body.contains(['\u{fffd}', '\0']) { format!("({} bytes)", body.len()) } else { body.to_owned() }
}
