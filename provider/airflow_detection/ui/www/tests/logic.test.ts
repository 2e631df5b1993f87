import { expect, test } from "vitest";

import { route, withQuery } from "../src/api/client";
import type { Report } from "../src/api/report";
import { draw } from "../src/charts/layers";
import { spread, stretches, ticks } from "../src/charts/scale";
import { flattened } from "../src/components/Evidence";
import { toneOfStatus, toneOfVerdict } from "../src/components/theme";
import { links, splitLabel } from "../src/links";
import { aligned } from "../src/pages/Entity";
import { paramRows } from "../src/pages/Model";
import { changesSince } from "../src/pages/ReportBody";

test("an address of a route has no leading slash and leaves out what is empty", () => {
  expect(route("events", { status: "OPEN", model_id: "", after: null, limit: 5 })).toBe("detection/api/events?status=OPEN&limit=5");
  expect(withQuery("a", { q: "x&y=z#" })).toBe("a?q=x%26y%3Dz%23");
});

test("ids of others stay within their part of an address", () => {
  expect(links.run("a/b", "scheduled__2026-01-01T00:00:00+00:00")).toBe("/dags/a%2Fb/runs/scheduled__2026-01-01T00%3A00%3A00%2B00%3A00");
  expect(links.entity("?view=x&entity=", "c")).toBe("/plugin/detection?view=entity&entity=%3Fview%3Dx%26entity%3D&cycle=c");
  expect(splitLabel("a@b@1.0")).toEqual({ model: "a@b", version: "1.0" });
});

const node = (id: string, wave: number) => ({ id, wave, height: 20 });

test("a node stands in the column of its wave, near what it reads, whatever the order of the plan", () => {
  const nodes = [node("d", 1), node("b", 0), node("a", 0), node("c", 1)];
  const edges = [{ upstream: "a", downstream: "d" }, { upstream: "b", downstream: "c" }];
  const drawing = draw(nodes, edges);
  expect(drawing.boxes).toEqual([
    { id: "a", column: 0, y: 0, height: 20 }, { id: "b", column: 0, y: 36, height: 20 },
    { id: "d", column: 1, y: 0, height: 20 }, { id: "c", column: 1, y: 36, height: 20 },
  ]);
  expect(draw([...nodes].reverse(), [...edges].reverse()).boxes).toEqual(drawing.boxes);
});

test("waves with a gap between them have no empty column", () => {
  expect(draw([node("a", 0), node("b", 7)], []).boxes.map((box) => box.column)).toEqual([0, 1]);
});

test("an edge that passes a column has a lane of its own, beside the nodes there", () => {
  const drawing = draw([node("a", 0), node("b", 1), node("c", 2)], [
    { upstream: "a", downstream: "b" }, { upstream: "b", downstream: "c" }, { upstream: "a", downstream: "c" },
  ]);
  const [lane] = drawing.routes.find((route) => route.upstream === "a" && route.downstream === "c")?.through ?? [];
  const passed = drawing.boxes.find((box) => box.id === "b");
  expect(lane?.column).toBe(1);
  expect(passed && lane && (lane.y < passed.y || lane.y > passed.y + passed.height)).toBe(true);
});

test("an edge of a model that is not in the plan is not drawn", () => {
  expect(draw([node("a", 0)], [{ upstream: "gone", downstream: "a" }]).routes).toEqual([]);
});

test("ticks are round and cover the values", () => {
  expect(ticks(0, 97)).toEqual([0, 50, 100]);
  expect(ticks(-0.3, 1.2)).toEqual([-0.5, 0, 0.5, 1, 1.5]);
  expect(ticks(3, 3)).toEqual([3]);
});

test("positions are spread with the first and the last", () => {
  expect(spread(3, 5)).toEqual([0, 1, 2]);
  expect(spread(100, 3)).toEqual([0, 50, 99]);
});

test("a line breaks where there is no value", () => {
  expect(stretches([1, 2, null, null, 3])).toEqual([[0, 1], [4]]);
});

test("params that differ are marked, also where one version has none", () => {
  expect(paramRows([{ params: { a: 1, b: { x: 1 } } }, { params: { b: { x: 1 }, c: null } }])).toEqual([
    { name: "a", values: ["1", null], differs: true },
    { name: "b", values: ['{"x":1}', '{"x":1}'], differs: false },
    { name: "c", values: [null, "null"], differs: true },
  ]);
});

test("scores of versions stand over the same instants", () => {
  const line = (label: string, at: string[], score: (number | null)[]) => ({ label, model_id: label, role: "PRIMARY" as const, is_replay: false, at, score });
  expect(aligned([line("a", ["1", "3"], [0.1, 0.3]), line("b", ["2", "3"], [0.2, null])])).toEqual({
    at: ["1", "2", "3"],
    values: [[0.1, null, 0.3], [null, 0.2, null]],
  });
});

test("evidence comes first, and nested values have names that lead to them", () => {
  expect(flattened({ entity_id: "a", mmsi: 1, evidence: { gap: { h: 2 }, open: false }, deep: { a: { b: { c: { d: 1 } } } }, none: {} }, ["entity_id"])).toEqual([
    ["gap.h", 2], ["open", false], ["mmsi", 1], ["deep.a.b.c", { d: 1 }], ["none", {}],
  ]);
});

test("every verdict asks for some attention, and an unknown one is not in order", () => {
  expect(["OK", "NO_SIGNAL", "WARMING_UP", "SILENT_FAULT", "NEW_KIND", "", null].map(toneOfVerdict)).toEqual(
    ["ok", "ok", "attention", "bad", "attention", "none", "none"]);
  expect(["ok", "bad", "attention", "not computed", null].map(toneOfStatus)).toEqual(["ok", "bad", "attention", "attention", "none"]);
});

test("changes since the report before are those of sections and of versions", () => {
  const report = (status: "ok" | "bad", worst: string): Report => ({
    kind: "hourly", taken_at: "", start: "", end: "", headline: "", missed: [],
    sections: [{ name: "feed", title: "Feed", status, summary: "", why: "", facts: [], tables: [], series: [] }],
    standings: [{ model_id: "m", version: "1", role: "PRIMARY", worst, last: worst, is_bad: worst !== "OK" }],
  });
  expect(changesSince(report("ok", "OK"), report("ok", "OK"))).toEqual([]);
  expect(changesSince(report("bad", "FAILED"), report("ok", "OK"))).toEqual([
    { kind: "section", name: "Feed", role: "", before: "ok", now: "bad" },
    { kind: "standing", name: "m@1", role: "PRIMARY", before: "OK", now: "FAILED" },
  ]);
});
