//! A document as canonical lines, by quick-xml alone: the oracle that knows nothing of the span tree.
//!
//! One line an element, attribute, run of text, comment and instruction, each with its path. Of the siblings of one name each has its
//! key (disks and interfaces) or its number, so a line keeps its path when another item comes or goes. White space between elements is
//! not a line.

use quick_xml::{Reader, events::Event};
use std::collections::HashMap;

struct Level {
    path: String,
    counts: HashMap<String, usize>,
    text: String,
}

pub fn lines(text: &str) -> Vec<String> {
    let mut reader = Reader::from_str(text);
    let mut out = Vec::new();
    let mut levels = vec![Level { path: String::new(), counts: HashMap::new(), text: String::new() }];
    let keys = keys(text);
    let mut seen = 0;
    loop {
        let event = reader.read_event().unwrap();
        let empty = matches!(event, Event::Empty(_));
        match event {
            Event::Start(start) | Event::Empty(start) => {
                flush(&mut levels, &mut out);
                let name = start.name().as_ref().to_owned();
                let key = keys[seen].clone();
                seen += 1;
                let parent = levels.last_mut().unwrap();
                let label = match key {
                    Some(key) => format!("{name}[{key}]"),
                    None => name.clone(),
                };
                let count = parent.counts.entry(label.clone()).or_default();
                *count += 1;
                let path = format!("{}/{label}#{count}", parent.path);
                out.push(path.clone());
                let mut attributes: Vec<String> = start
                    .attributes()
                    .map(|a| {
                        let a = a.unwrap();
                        let name = a.key.as_ref().to_owned();
                        format!("{path}/@{name} = {}", unescape(&a.value, true))
                    })
                    .collect();
                attributes.sort();
                out.extend(attributes);
                if !empty {
                    levels.push(Level { path, counts: HashMap::new(), text: String::new() });
                }
            }
            Event::End(_) => {
                flush(&mut levels, &mut out);
                levels.pop();
            }
            Event::Text(raw) => {
                levels.last_mut().unwrap().text.push_str(&unescape(&raw, false));
            }
            Event::GeneralRef(name) => {
                let name = format!("&{};", &*name);
                levels.last_mut().unwrap().text.push_str(&unescape(&name, false));
            }
            Event::CData(raw) => levels.last_mut().unwrap().text.push_str(&raw),
            Event::Comment(raw) => {
                flush(&mut levels, &mut out);
                let path = &levels.last().unwrap().path;
                out.push(format!("{path}/comment = {}", &*raw));
            }
            Event::PI(raw) => {
                flush(&mut levels, &mut out);
                let path = &levels.last().unwrap().path;
                out.push(format!("{path}/instruction = {}", &*raw));
            }
            Event::Decl(_) | Event::DocType(_) => {}
            Event::Eof => return out,
        }
    }
}

fn flush(levels: &mut [Level], out: &mut Vec<String>) {
    let level = levels.last_mut().unwrap();
    if !level.text.trim().is_empty() {
        out.push(format!("{}/text = {}", level.path, level.text.replace("\r\n", "\n")));
    }
    level.text.clear();
}

/// The key of each element in document order: of disks their target, of interfaces their address.
fn keys(text: &str) -> Vec<Option<String>> {
    let mut reader = Reader::from_str(text);
    let mut keys: Vec<Option<String>> = Vec::new();
    let mut open: Vec<(usize, String)> = Vec::new();
    loop {
        let event = reader.read_event().unwrap();
        let empty = matches!(event, Event::Empty(_));
        match event {
            Event::Start(start) | Event::Empty(start) => {
                let name = start.name().as_ref().to_owned();
                if let Some((outer, outer_name)) = open.last() {
                    let attribute = match (outer_name.as_str(), name.as_str()) {
                        ("disk", "target") => start.try_get_attribute("dev").unwrap(),
                        ("interface", "mac") => start.try_get_attribute("address").unwrap(),
                        _ => None,
                    };
                    if let Some(attribute) = attribute {
                        keys[*outer] = Some(attribute.value.to_lowercase());
                    }
                }
                keys.push(None);
                if !empty {
                    open.push((keys.len() - 1, name));
                }
            }
            Event::End(_) => {
                open.pop();
            }
            Event::Eof => return keys,
            _ => {}
        }
    }
}

fn unescape(raw: &str, attribute: bool) -> String {
    let mut raw = raw.replace("\r\n", "\n");
    if attribute {
        raw = raw.replace(['\n', '\t'], " ");
    }
    quick_xml::escape::unescape(&raw).unwrap().into_owned()
}
