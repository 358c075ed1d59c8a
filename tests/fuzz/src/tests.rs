//! Each decoder withstands damaged input; how long is tried is told by the environment, see the crate's documentation.

use crate::{
    runner::{Budget, run},
    targets,
};

fn fuzz(name: &str) {
    let target = targets::ALL.iter().find(|t| t.name == name).expect("a target of that name");
    if let Err(error) = run(target, Budget::from_env().unwrap()) {
        panic!("{error}");
    }
}

macro_rules! targets {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            fuzz(stringify!($name));
        })*

        #[test]
        fn every_target_has_its_test() {
            let names: Vec<_> = targets::ALL.iter().map(|t| t.name).collect();
            assert_eq!(names, [$(stringify!($name)),*]);
        }
    };
}

targets! {
    soap_decode xml_tree xdr_decode xdr_packets xdr_schema union_record domain_xml domain_rows mapping_bundle property_path command_lift bus_subject datetime object_id libvirt_uri users_file
}
