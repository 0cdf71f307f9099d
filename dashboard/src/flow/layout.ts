/**
 * Places the tasks of a flow in layers: each to the right of all that it depends on, near them in height. Cycles cannot be,
 * and would end in the last layer all the same.
 */
export interface FlowEdge {
  from: string;
  to: string;
}

export interface Placed {
  id: string;
  layer: number;
  /** From the top of its layer; layers are centred on each other. */
  row: number;
}

export interface Layout {
  nodes: Placed[];
  /** Where the line of an edge passes layers that it only crosses, by `from to`. */
  waypoints: ReadonlyMap<string, readonly Placed[]>;
  layers: number;
  rows: number;
}

/** Places that lines pass through have a row of their own; with more of them lines go straight. */
const WAYPOINTS_MAX = 300;

/** Each sweep brings neighbours nearer; more than these change little. */
const SWEEPS = 4;

export function layOut(ids: readonly string[], edges: readonly FlowEdge[]): Layout {
  const known = new Set(ids);
  const drawn = edges.filter(({ from, to }) => known.has(from) && known.has(to) && from !== to);
  const layers = layersOf(ids, grouped(drawn, 'to', 'from'), grouped(drawn, 'from', 'to'));
  const { steps, passages } = divide(layers, drawn);
  const parents = grouped(steps, 'to', 'from');
  const children = grouped(steps, 'from', 'to');
  for (let sweep = 0; sweep < SWEEPS; sweep += 1) {
    for (let index = 1; index < layers.length; index += 1) arrange(layers, index, index - 1, parents);
    for (let index = layers.length - 2; index >= 0; index -= 1) arrange(layers, index, index + 1, children);
  }
  const rows = Math.max(0, ...layers.map(({ length }) => length));
  const placed = new Map(
    layers.flatMap((layer, index) =>
      layer.map((id, row): [string, Placed] => [id, { id, layer: index, row: row + (rows - layer.length) / 2 }]),
    ),
  );
  const waypoints = [...passages].map(([edge, passed]): [string, Placed[]] => [
    edge,
    passed.flatMap((id) => placed.get(id) ?? []),
  ]);
  return {
    nodes: ids.flatMap((id) => placed.get(id) ?? []),
    waypoints: new Map(waypoints),
    layers: layers.length,
    rows,
  };
}

/** Puts a waypoint into each layer that an edge crosses, so that every step leads to the next layer. */
function divide(layers: string[][], edges: readonly FlowEdge[]) {
  const layerOf = new Map(layers.flatMap((layer, index) => layer.map((id): [string, number] => [id, index])));
  const crossed = ({ from, to }: FlowEdge): number => (layerOf.get(to) ?? 0) - (layerOf.get(from) ?? 0) - 1;
  const passages = new Map<string, string[]>();
  const total = edges.reduce((sum, edge) => sum + Math.max(0, crossed(edge)), 0);
  if (total > WAYPOINTS_MAX) return { steps: edges, passages };
  const steps: FlowEdge[] = [];
  for (const edge of edges) {
    const name = `${edge.from} ${edge.to}`;
    const first = (layerOf.get(edge.from) ?? 0) + 1;
    const passed = Array.from({ length: Math.max(0, crossed(edge)) }, (_, index) => `${name} ${index}`);
    passed.forEach((id, index) => {
      layers[first + index]?.push(id);
    });
    const stops = [edge.from, ...passed, edge.to];
    for (let index = 1; index < stops.length; index += 1) {
      steps.push({ from: stops[index - 1] as string, to: stops[index] as string });
    }
    if (passed.length > 0) passages.set(name, passed);
  }
  return { steps, passages };
}

type Neighbours = ReadonlyMap<string, readonly string[]>;

function grouped(edges: readonly FlowEdge[], by: 'from' | 'to', other: 'from' | 'to'): Neighbours {
  const groups = new Map<string, string[]>();
  for (const edge of edges) {
    const group = groups.get(edge[by]);
    if (group === undefined) groups.set(edge[by], [edge[other]]);
    else group.push(edge[other]);
  }
  return groups;
}

/** A task's layer is the length of the longest way to it. */
function layersOf(ids: readonly string[], parents: Neighbours, children: Neighbours): string[][] {
  const open = new Map(ids.map((id) => [id, parents.get(id)?.length ?? 0]));
  const layers: string[][] = [];
  let current = ids.filter((id) => open.get(id) === 0);
  const placed = new Set<string>();
  while (current.length > 0) {
    layers.push(current);
    const next: string[] = [];
    for (const id of current) {
      placed.add(id);
      for (const child of children.get(id) ?? []) {
        const left = (open.get(child) ?? 0) - 1;
        open.set(child, left);
        if (left === 0) next.push(child);
      }
    }
    current = next;
  }
  const left = ids.filter((id) => !placed.has(id));
  return left.length === 0 ? layers : [...layers, left];
}

/** Orders a layer by the mean place of each task's neighbours in the layer beside it. */
function arrange(layers: string[][], index: number, beside: number, neighbours: Neighbours): void {
  const layer = layers[index] as string[];
  const there = layers[beside] as string[];
  const places = new Map(there.map((id, place) => [id, (place + 0.5) / there.length]));
  const wanted = new Map(
    layer.map((id, place) => {
      const found = (neighbours.get(id) ?? []).flatMap((one) => places.get(one) ?? []);
      const own = (place + 0.5) / layer.length;
      return [id, found.length === 0 ? own : found.reduce((sum, one) => sum + one, 0) / found.length];
    }),
  );
  layers[index] = [...layer].sort((one, other) => (wanted.get(one) ?? 0) - (wanted.get(other) ?? 0));
}
