//! No front yet: nobody is served libvirt's protocol by this crate. The codec below it ([`wire::xdr`]) reads and writes both sides.
