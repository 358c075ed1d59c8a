//! A new domain: the row file's fragment, of a kind that the host offers.
//!
//! The fragment says what is usual; where the host does not offer that (no KVM, another architecture, another machine type) and nobody asked
//! for it, what the host offers takes its place.

use crate::inventory::{at, document, get, set};
use mapping::edit::{DocumentMap, Refusal, Tree};
use union::{
    Record, Schema,
    plan::{Script, ScriptChange},
};
use uuid::Uuid;

/// Ways to run a guest, best first; any other comes after them.
const BEST: &[&str] = &["kvm", "hvf", "xen", "qemu"];

/// One architecture that a host offers for fully virtualised guests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Arch {
    name: String,
    machines: Vec<String>,
    /// Ways to run a guest, as documents name them.
    kinds: Vec<String>,
}

/// What a host offers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    host: Option<String>,
    archs: Vec<Arch>,
}

impl Offer {
    /// From the capabilities document. One that cannot be read offers nothing known, and then the fragment stays as it is.
    pub fn read(capabilities: &str) -> Offer {
        let Ok(document) = document(capabilities) else { return Offer::default() };
        let root = document.root();
        let guests = root.children_named("guest");
        let full = guests.filter(|g| g.child("os_type").is_some_and(|t| t.text().trim() == "hvm"));
        let archs = full.filter_map(|guest| guest.child("arch")).filter_map(|arch| {
            let texts = |name| arch.children_named(name).map(|e| e.text().trim().to_owned()).collect();
            // A kind may have machines of its own.
            let kinds = arch.children_named("domain").filter_map(|d| d.attribute("type"));
            Some(Arch {
                name: arch.attribute("name")?.to_owned(),
                machines: texts("machine"),
                kinds: kinds.map(str::to_owned).collect(),
            })
        });
        Offer { host: at(root, "host/cpu/arch").map(|e| e.text().trim().to_owned()), archs: archs.collect() }
    }

    fn arch(&self, name: &str) -> Option<&Arch> {
        self.archs.iter().find(|arch| arch.name == name)
    }

    /// The architecture for a guest that the fragment makes for `usual`.
    fn best(&self, usual: &str) -> Option<&Arch> {
        let hosts = self.host.as_deref().and_then(|host| self.arch(host));
        self.arch(usual).or(hosts).or_else(|| self.archs.first())
    }
}

impl Arch {
    fn kind(&self) -> Option<&str> {
        let best = BEST.iter().find(|best| self.kinds.iter().any(|kind| kind == *best));
        best.copied().or_else(|| self.kinds.first().map(String::as_str))
    }

    fn machine(&self, usual: &str) -> Option<&str> {
        let usual = self.machines.iter().find(|machine| *machine == usual);
        usual.or_else(|| self.machines.first()).map(String::as_str)
    }
}

/// The uuid that a script gives to something new.
pub fn uuid(script: &Script) -> Option<Uuid> {
    script.changes.iter().find_map(|change| match change {
        ScriptChange::Set { field, value } if **field == *"uuid" => {
            value.as_str().and_then(|text| Uuid::try_parse(text).ok())
        }
        _ => None,
    })
}

/// A new domain's document.
///
/// # Errors
/// The rows cannot say it.
pub fn fragment(
    rows: &DocumentMap,
    schema: &Schema,
    offer: &Offer,
    mut want: Record,
) -> Result<String, Refusal> {
    let text = rows.create(&want)?;
    let usual = rows.get(&Tree::parse(&text)?).record;
    let says = |field: &str| get(schema, &usual, field).as_str().unwrap_or_default().to_owned();
    let Some(arch) = offer.best(&says("arch")) else { return Ok(text) };
    let (kind, machine) = (arch.kind(), says("machine"));
    for (field, offered) in
        [("arch", Some(arch.name.as_str())), ("accelerator", kind), ("machine", arch.machine(&machine))]
    {
        if let Some(offered) = offered.filter(|offered| says(field) != *offered)
            && get(schema, &want, field).is_absent()
        {
            set(schema, &mut want, field, offered);
        }
    }
    rows.create(&want)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::bundle;
    use union::Kind;

    const QEMU: &str = "<capabilities><host><cpu><arch>x86_64</arch></cpu></host>\
        <guest><os_type>hvm</os_type><arch name='i686'><machine>pc</machine><domain type='qemu'/></arch></guest>\
        <guest><os_type>hvm</os_type><arch name='x86_64'><machine>pc</machine><machine canonical='x'>q35</machine>\
        <domain type='qemu'/></arch></guest></capabilities>";

    fn made(capabilities: &str, fields: &[(&str, &str)]) -> String {
        let bundle = bundle();
        let mut want = bundle.schema.kind(Kind::Vm).record();
        set(&bundle.schema, &mut want, "name", "new");
        fields.iter().for_each(|(field, text)| set(&bundle.schema, &mut want, field, *text));
        let rows = bundle.document("libvirt").unwrap();
        fragment(rows, &bundle.schema, &Offer::read(capabilities), want).unwrap()
    }

    #[test]
    fn a_new_domain_is_of_a_kind_that_the_host_offers() {
        let made_on_qemu = made(QEMU, &[]);
        assert!(made_on_qemu.contains("<domain type='qemu'>"), "{made_on_qemu}");
        assert!(made_on_qemu.contains("arch='x86_64' machine='q35'"), "{made_on_qemu}");
        let kvm = QEMU.replace("<domain type='qemu'/>", "<domain type='qemu'/><domain type='kvm'/>");
        assert!(made(&kvm, &[]).contains("<domain type='kvm'>"));
        assert!(made(&kvm, &[("accelerator", "qemu")]).contains("<domain type='qemu'>"));
        let arm = "<capabilities><guest><os_type>hvm</os_type><arch name='aarch64'><machine>virt</machine>\
                   <domain type='other'/></arch></guest></capabilities>";
        let text = made(arm, &[]);
        assert!(
            text.contains("<domain type='other'>") && text.contains("arch='aarch64' machine='virt'"),
            "{text}"
        );
        assert!(made(arm, &[("machine", "odd")]).contains("machine='odd'"));
    }

    #[test]
    fn capabilities_that_cannot_be_read_leave_the_fragment() {
        assert!(made("", &[]).contains("<domain type='kvm'>"));
    }
}
