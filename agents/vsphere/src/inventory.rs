//! The objects of one view in native words: references to and from them, their types, and their properties through the mapping.
//!
//! ```text
//! fact        a union object of the view's inventory; its native id is given out by the id map at first sight
//! facet       a second native type that shows the same union object (a host's datastore system); its id is made from the first one's
//! singleton   a native type that shows the view's `Service` object under a fixed id
//! made        what a session created: views, filters, collectors; see `made`
//! ```

use crate::{native::Plain, tree::Tree};
use ::inventory::{IdMap, Inventory, View};
use mapping::{
    Bundle, Emit, IdForm, NativeRef, ObjectMap, Protocol, Reader, Selection,
    schema::{NativeSchema, TypeKind, VersionIndex},
};
use rustc_hash::FxHashMap;
use std::sync::Arc;
use union::{Kind, MessageId, ObjectId, Record, Schema, Slot};

/// A type of the native schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct TypeId(pub(crate) u16);

impl TypeId {
    /// No type.
    pub(crate) const NONE: TypeId = TypeId(u16::MAX);

    fn native(self) -> mapping::schema::TypeId {
        mapping::schema::TypeId(self.0)
    }
}

/// What lies in the inventory tree.
const ENTITY: &str = "ManagedEntity";

/// What a reference leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Key {
    /// A union object as one of its native types.
    Fact(ObjectId, TypeId),
    /// An object that a session created.
    Made(u64),
}

impl Key {
    /// The union object.
    pub(crate) fn object(self) -> Option<ObjectId> {
        if let Key::Fact(id, _) = self { Some(id) } else { None }
    }

    /// The number of a made object.
    pub(crate) fn made(self) -> Option<u64> {
        if let Key::Made(number) = self { Some(number) } else { None }
    }
}

/// A type shown beside the first one of its kind.
struct Facet {
    ty: TypeId,
    kind: Kind,
    form: IdForm,
}

/// The objects of one view.
pub(crate) struct Catalog {
    bundle: Arc<Bundle>,
    protocol: Arc<Protocol>,
    view: Arc<View>,
    ids: Arc<IdMap>,
    tree: Tree,
    service: ObjectId,
    newest: VersionIndex,
    maps: FxHashMap<TypeId, Arc<ObjectMap>>,
    kinds: FxHashMap<MessageId, Kind>,
    singletons: FxHashMap<Arc<str>, TypeId>,
    singleton_ids: FxHashMap<TypeId, NativeRef>,
    facets: Vec<Facet>,
}

impl Catalog {
    /// The objects of `view` in the words of `protocol`. `None`: the bundle does not have the protocol, or no such view.
    pub(crate) fn new(
        bundle: Arc<Bundle>,
        protocol: &str,
        view: Arc<View>,
        ids: Arc<IdMap>,
    ) -> Option<Catalog> {
        let protocol = bundle.protocol(protocol)?.clone();
        let constants = protocol.constants(view.name())?;
        let schema = bundle.schema.clone();
        let kinds: FxHashMap<MessageId, Kind> =
            Kind::ALL.iter().map(|kind| (schema.kind(*kind).id, *kind)).collect();
        let last = u16::try_from(protocol.native.versions().len()).unwrap_or(u16::MAX).saturating_sub(1);
        let newest = constants.text("about.apiVersion").and_then(|version| protocol.native.version(version));
        let mut catalog = Catalog {
            service: ObjectId::derived(Kind::Service, &[&protocol.name, view.name()]),
            tree: Tree::new(&schema),
            newest: newest.unwrap_or(VersionIndex(last)),
            kinds,
            maps: FxHashMap::default(),
            singletons: FxHashMap::default(),
            singleton_ids: FxHashMap::default(),
            facets: Vec::new(),
            bundle,
            protocol,
            view,
            ids,
        };
        catalog.index_types();
        catalog.name_all();
        Some(catalog)
    }

    /// Gives out the native ids of all that is there, the root's first.
    fn name_all(&self) {
        let kinds = self.tree.kinds().chain([Kind::Snapshot, Kind::Task]);
        let all = [self.root()].into_iter().chain(kinds.flat_map(|kind| self.inventory().ids(kind)));
        let forms: Vec<(ObjectId, String)> = all
            .filter(|id| self.ids.known(*id).is_none())
            .filter_map(|id| {
                let record = self.record(id)?;
                let map = self.first_map(id, &record)?;
                let form = self.protocol.id_form(self.view.name(), &map.native_type, id, &record, self)?;
                Some((id, form.pattern().to_string()))
            })
            .collect();
        let wanted: Vec<(ObjectId, &str)> = forms.iter().map(|(id, form)| (*id, form.as_str())).collect();
        self.ids.natives(&wanted);
    }

    fn index_types(&mut self) {
        let protocol = self.protocol.clone();
        for map in protocol.objects().filter(|map| map.managed) {
            let ty = TypeId(map.native_id.0);
            self.maps.insert(ty, map.clone());
            let Some(kind) = self.kinds.get(&map.union).copied() else { continue };
            let Some(form) = self.plain_form(map) else { continue };
            if kind == Kind::Service {
                let id: Arc<str> = Arc::from(form.pattern());
                self.singleton_ids.insert(ty, NativeRef { ty: map.native_type.clone(), id: id.clone() });
                self.singletons.insert(id, ty);
            } else if !self.is_first(ty, kind) {
                self.facets.push(Facet { ty, kind, form });
            }
        }
    }

    /// Whether a type is one that shows a kind, not one shown beside it.
    fn is_first(&self, ty: TypeId, kind: Kind) -> bool {
        matches!(kind, Kind::Task | Kind::Snapshot | Kind::Event | Kind::Session)
            || self.is_a_named(ty, ENTITY)
    }

    /// A type's id form for an object of which nothing is known.
    fn plain_form(&self, map: &ObjectMap) -> Option<IdForm> {
        let kind = self.kinds.get(&map.union)?;
        let empty = self.bundle.schema.kind(*kind).record();
        let id = ObjectId::new(*kind, uuid::Uuid::nil());
        self.protocol.id_form(self.view.name(), &map.native_type, id, &empty, self).cloned()
    }

    /// A constant of the view; empty where there is none.
    pub(crate) fn constant(&self, path: &str) -> &str {
        self.protocol.constants(self.view.name()).and_then(|c| c.text(path)).map_or("", |text| text)
    }

    /// A list of texts among the constants of the view.
    pub(crate) fn constants(&self, path: &str) -> Vec<String> {
        let list = self.protocol.constants(self.view.name()).map_or(&[][..], |c| c.list(path));
        list.iter().filter_map(|item| item.as_text()).map(|text| text.to_string()).collect()
    }

    /// The uuid that names the installation as a server; a host has none.
    pub(crate) fn instance_uuid(&self) -> Option<String> {
        self.view.host().is_none().then(|| self.service.uuid.to_string())
    }

    /// The mappings it is made by.
    pub(crate) fn bundle(&self) -> &Arc<Bundle> {
        &self.bundle
    }

    /// The mapping it speaks.
    pub(crate) fn protocol(&self) -> &Arc<Protocol> {
        &self.protocol
    }

    /// The vendor's types.
    pub(crate) fn native(&self) -> &NativeSchema {
        &self.protocol.native
    }

    /// The newest version the view offers.
    pub(crate) fn newest(&self) -> VersionIndex {
        self.newest
    }

    /// The union's types.
    pub(crate) fn schema(&self) -> &Arc<Schema> {
        &self.bundle.schema
    }

    /// The facts.
    pub(crate) fn inventory(&self) -> &Arc<Inventory> {
        self.view.inventory()
    }

    /// The view.
    pub(crate) fn view(&self) -> &Arc<View> {
        &self.view
    }

    /// Who lies in whom.
    pub(crate) fn tree(&self) -> &Tree {
        &self.tree
    }

    /// The root folder.
    pub(crate) fn root(&self) -> ObjectId {
        self.view.root()
    }

    /// The object that holds what the front says of itself.
    pub(crate) fn service(&self) -> ObjectId {
        self.service
    }

    /// The facts of an object.
    pub(crate) fn record(&self, id: ObjectId) -> Option<Arc<Record>> {
        self.inventory().record(id)
    }

    /// A managed type.
    pub(crate) fn managed(&self, name: &str) -> Option<TypeId> {
        let id = self.native().named(name)?;
        (self.native().get(id)?.kind == TypeKind::Managed).then_some(TypeId(id.0))
    }

    /// The name of a type.
    pub(crate) fn type_name(&self, ty: TypeId) -> &str {
        self.native().name(ty.native())
    }

    /// Whether `below` is `above` or descends from it.
    pub(crate) fn is_a(&self, below: TypeId, above: TypeId) -> bool {
        self.native().is_a(below.native(), above.native())
    }

    /// As [`Catalog::is_a`], by name; an unknown name is nobody's base.
    pub(crate) fn is_a_named(&self, below: TypeId, above: &str) -> bool {
        self.managed(above).is_some_and(|above| self.is_a(below, above))
    }

    /// The rows of a type.
    pub(crate) fn map(&self, ty: TypeId) -> Option<&Arc<ObjectMap>> {
        self.maps.get(&ty)
    }

    /// The kind of union object that rows show, if they show one.
    pub(crate) fn kind_of(&self, map: &ObjectMap) -> Option<Kind> {
        self.kinds.get(&map.union).copied()
    }

    /// The native types that show a kind.
    pub(crate) fn types_of_kind(&self, kind: Kind) -> Vec<TypeId> {
        self.maps.iter().filter(|(_, map)| self.kind_of(map) == Some(kind)).map(|(ty, _)| *ty).collect()
    }

    /// The type that shows an object.
    pub(crate) fn type_of(&self, id: ObjectId, record: &Record) -> Option<TypeId> {
        if id.kind == Kind::Service {
            return None;
        }
        self.first_map(id, record).map(|map| TypeId(map.native_id.0))
    }

    /// The rows that show an object.
    fn first_map(&self, id: ObjectId, record: &Record) -> Option<&Arc<ObjectMap>> {
        let first = self.protocol.show(id, record, self)?;
        if self.is_first(TypeId(first.native_id.0), id.kind) {
            return Some(first);
        }
        let mut others = self.protocol.objects().filter(|map| map.managed && map.fits(id, record, self));
        others.find(|map| self.is_first(TypeId(map.native_id.0), id.kind))
    }

    /// The facts of an object and the rows that show them.
    pub(crate) fn shown(&self, id: ObjectId) -> Option<(Arc<Record>, Arc<ObjectMap>)> {
        let record = self.record(id)?;
        let map = self.first_map(id, &record)?.clone();
        Some((record, map))
    }

    /// The rows that show an event.
    pub(crate) fn event_map(&self, entry: &::inventory::chronicle::Entry) -> Option<&Arc<ObjectMap>> {
        self.protocol.show(entry.id, &entry.record, self)
    }

    /// Whether the vendor's type has a method.
    pub(crate) fn has_method(&self, ty: TypeId, method: &str) -> bool {
        self.native().method(ty.native(), method).is_some()
    }

    /// Whether any of the vendor's types has a method of this name.
    pub(crate) fn any_has_method(&self, method: &str) -> bool {
        self.native().types().any(|(_, ty)| ty.methods.iter().any(|known| &*known.name == method))
    }

    /// Renders a property of the front's own object, of facts that are only this caller's.
    pub(crate) fn render_service(
        &self,
        ty: &str,
        path: &str,
        record: &Record,
        version: VersionIndex,
        out: &mut dyn Emit,
    ) {
        let map = self.managed(ty).and_then(|ty| self.maps.get(&ty));
        if let Some(map) = map
            && let Ok(selection) = map.select(path, version)
        {
            map.render(&selection, self.service, record, self, version, out);
        }
    }

    /// The key of an object, if the view shows it.
    pub(crate) fn key(&self, id: ObjectId) -> Option<Key> {
        let record = self.record(id)?;
        Some(Key::Fact(id, self.type_of(id, &record)?))
    }

    /// The first reference of an object that is there.
    pub(crate) fn reference(&self, id: ObjectId) -> Option<NativeRef> {
        let record = self.record(id)?;
        let map = self.first_map(id, &record)?;
        Some(NativeRef { ty: map.native_type.clone(), id: self.native_id(id, &record, map)? })
    }

    /// Waits until the id that an object is shown by is written.
    pub(crate) async fn kept(&self, id: ObjectId) {
        self.ids.written(id).await;
    }

    fn native_id(&self, id: ObjectId, record: &Record, map: &ObjectMap) -> Option<Arc<str>> {
        if let Some(known) = self.ids.known(id) {
            return Some(known);
        }
        let form = self.protocol.id_form(self.view.name(), &map.native_type, id, record, self)?;
        self.ids.native(id, &form.pattern())
    }

    /// The reference behind a key; `None`: a made object, or one that was never shown.
    pub(crate) fn reference_of(&self, key: Key) -> Option<NativeRef> {
        let Key::Fact(id, ty) = key else { return None };
        if let Some(singleton) = self.singleton_ids.get(&ty) {
            return Some(singleton.clone());
        }
        let ty_name = self.maps.get(&ty)?.native_type.clone();
        let first = match self.ids.known(id) {
            Some(known) => known,
            None => self.reference(id)?.id,
        };
        match self.facets.iter().find(|facet| facet.ty == ty) {
            Some(facet) if facet.form.is_face() => {
                Some(NativeRef { ty: ty_name, id: Arc::from(facet.form.face(&first)) })
            }
            Some(facet) => Some(NativeRef { ty: ty_name, id: Arc::from(facet.form.pattern()) }),
            None => Some(NativeRef { ty: ty_name, id: first }),
        }
    }

    /// What a reference leads to, if it is a fact that is there. The type a client names is not looked at, as in the real product.
    pub(crate) fn resolve(&self, reference: &NativeRef) -> Option<Key> {
        if let Some(ty) = self.singletons.get(&reference.id) {
            return Some(Key::Fact(self.service, *ty));
        }
        match self.ids.object(&reference.id) {
            Some(id) => self.key(id),
            None => self.facet(reference),
        }
    }

    fn facet(&self, reference: &NativeRef) -> Option<Key> {
        self.facets.iter().find_map(|facet| {
            let id = if facet.form.is_face() {
                self.ids.object(facet.form.faced(&reference.id)?)
            } else if facet.form.pattern() == *reference.id {
                // A fixed id stands where the view has one object of the kind.
                self.inventory().ids(facet.kind).into_iter().next()
            } else {
                None
            };
            id.filter(|id| id.kind == facet.kind && self.record(*id).is_some())
                .map(|id| Key::Fact(id, facet.ty))
        })
    }

    /// The references of all singletons.
    #[cfg(test)]
    pub(crate) fn singletons(&self) -> Vec<NativeRef> {
        self.singleton_ids.values().cloned().collect()
    }

    /// One property of an object as text.
    pub(crate) fn text(&self, id: ObjectId, path: &str) -> Option<String> {
        let (record, map) = self.shown(id)?;
        let selection = map.select(path, self.newest).ok()?;
        let mut plain = Plain::default();
        map.render(&selection, id, &record, self, self.newest, &mut plain).then(|| plain.text())
    }

    /// What a property of an object refers to.
    pub(crate) fn keys(
        &self,
        id: ObjectId,
        map: &ObjectMap,
        selection: &Selection,
        version: VersionIndex,
    ) -> Vec<Key> {
        let Some(record) = self.record(id) else { return Vec::new() };
        let mut objects = Vec::new();
        map.references(selection, id, &record, self, version, &mut objects);
        if !objects.is_empty() {
            return objects.into_iter().filter_map(|id| self.key(id)).collect();
        }
        // References that rows write as text lead to facets and singletons.
        let mut plain = Plain::default();
        map.render(selection, id, &record, self, version, &mut plain);
        plain.into_references().iter().filter_map(|reference| self.resolve(reference)).collect()
    }
}

impl Reader for Catalog {
    fn object(&self, id: ObjectId) -> Option<Arc<Record>> {
        self.record(id)
    }

    fn referring(&self, kind: Kind, slot: Slot, to: ObjectId, out: &mut Vec<ObjectId>) {
        self.inventory().referring(kind, slot, to, out);
    }

    fn native_ref(&self, id: ObjectId) -> Option<NativeRef> {
        self.reference(id)
    }

    fn view(&self) -> &str {
        self.view.name()
    }

    fn gap(&self, gap: mapping::Gap) {
        self.inventory().gaps().note(&self.protocol.name, &gap.path, || gap.why);
    }
}
