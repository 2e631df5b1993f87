export type Node = { id: string; wave: number; height: number };
export type Edge = { upstream: string; downstream: string };
export type Box = { id: string; column: number; y: number; height: number };
export type Route = Edge & { through: { column: number; y: number }[] };
export type Drawing = { columns: number; height: number; boxes: Box[]; routes: Route[] };

const GAP = 16;
const LANE = 6; // height of the lane in which an edge passes a column
const between = (values: number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;

/**
 * Places of a layered graph: a column for each wave, from top to bottom near the middle of what is read; an edge
 * that passes columns has a lane in each. Ties in order of name: the same graph gives the same picture.
 */
export const draw = (nodes: Node[], edges: Edge[]): Drawing => {
  const waves = [...new Set(nodes.map((node) => node.wave))].sort((a, b) => a - b);
  const column = new Map(nodes.map((node) => [node.id, waves.indexOf(node.wave)]));
  const known = edges.filter((edge) => column.has(edge.upstream) && column.has(edge.downstream));
  const slots: Node[][] = waves.map((wave) => nodes.filter((node) => node.wave === wave));
  const reads = new Map<string, string[]>();
  const read = (id: string, up: string) => reads.set(id, [...(reads.get(id) ?? []), up]);
  const lanes = known.map((edge) => {
    const [from, to] = [column.get(edge.upstream) ?? 0, column.get(edge.downstream) ?? 0];
    const ids = Array.from({ length: Math.max(0, to - from - 1) }, (_, n) => `${edge.upstream}\0${edge.downstream}\0${from + 1 + n}`);
    ids.forEach((id, n) => {
      slots[from + 1 + n]?.push({ id, wave: waves[from + 1 + n] ?? 0, height: LANE });
      read(id, ids[n - 1] ?? edge.upstream);
    });
    read(edge.downstream, ids.at(-1) ?? edge.upstream);
    return ids;
  });
  const middles = new Map<string, number>();
  const wanted = (id: string): number => between((reads.get(id) ?? []).map((up) => middles.get(up) ?? 0)) || 0;
  const stacks = slots.map((slot) => {
    const ordered = [...slot].sort((a, b) => wanted(a.id) - wanted(b.id) || (a.id < b.id ? -1 : 1));
    const total = ordered.reduce((sum, node) => sum + node.height + GAP, -GAP);
    let y = -total / 2;
    return ordered.map((node) => {
      const top = y;
      middles.set(node.id, top + node.height / 2);
      y += node.height + GAP;
      return { ...node, y: top };
    });
  });
  const top = Math.min(0, ...stacks.flat().map((node) => node.y));
  const bottom = Math.max(0, ...stacks.flat().map((node) => node.y + node.height));
  return {
    columns: waves.length,
    height: bottom - top,
    boxes: stacks.flatMap((stack, n) => stack.filter((node) => column.has(node.id)).map(({ id, y, height }) => ({ id, column: n, y: y - top, height }))),
    routes: known.map((edge, n) => ({
      ...edge,
      through: (lanes[n] ?? []).map((id, step) => ({ column: (column.get(edge.upstream) ?? 0) + 1 + step, y: (middles.get(id) ?? 0) - top })),
    })),
  };
};
