// Prints, as JSON, the ids that Grafana knows: units, transformations, reducers and matchers of fields.
//
//     node ids.cjs folder/of/@grafana/data
//
// The package is loaded without the 139 packages it depends on: where the lists are made, nothing of those is used.
const Module = require('node:module');
const path = require('node:path');

const nothing = new Proxy(function () {}, {
  apply: () => nothing,
  get: (_, name) => (name === Symbol.toPrimitive ? () => '' : nothing),
});
const load = Module._load;
Module._load = (request, ...rest) =>
  request.startsWith('.') || path.isAbsolute(request) ? load(request, ...rest) : nothing;
// Some units are dates in the language of the browser.
globalThis.navigator ??= { languages: ['en'] };

const part = (name) => require(path.resolve(process.argv[2], 'dist/cjs', name));
const { getValueFormats } = part('valueFormats/valueFormats.cjs');
const ids = {
  units: getValueFormats().flatMap((category) => category.submenu.map((unit) => unit.value)),
  transformations: Object.values(part('transformations/transformers/ids.cjs').DataTransformerID),
  reducers: Object.values(part('transformations/fieldReducer.cjs').ReducerID),
  matchers: Object.values(part('transformations/matchers/ids.cjs').FieldMatcherID),
};
console.log(JSON.stringify(ids));
