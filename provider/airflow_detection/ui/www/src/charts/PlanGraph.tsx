import { Box, chakra, Flex } from "@chakra-ui/react";

import type { CycleRun, Plan, VersionRef } from "../api/types";
import { RoleMark, ShortOutcome } from "../components/Mark";
import { PageLink } from "../components/PageLink";
import { Id } from "../components/Text";
import { token } from "../components/theme";
import { useNumbers } from "../format/numbers";
import { links } from "../links";
import { useTexts } from "../locales";
import { draw, type Route } from "./layers";

const WIDTH = 228;
const COLUMN_GAP = 56;
const HEAD = 34;
const LINE = 26;
const STEP = WIDTH + COLUMN_GAP;

type Manifest = CycleRun["manifests"][number];

const Version = ({ version, manifest }: { version: VersionRef; manifest: Manifest | undefined }) => {
  const n = useNumbers();
  const t = useTexts();
  return (
    <Flex as="li" align="center" gap={1.5} h={`${LINE}px`} fontSize="xs" minW={0} listStyleType="none" overflow="hidden">
      <chakra.span fontWeight={version.role === "PRIMARY" ? "semibold" : "normal"} truncate minW="2rem" maxW="5rem"><Id value={version.version} max={24} /></chakra.span>
      <RoleMark role={version.role} />
      {manifest && <ShortOutcome outcome={manifest.outcome} />}
      {manifest?.outcome === "SUCCEEDED" && manifest.output_count !== null && (
        <chakra.span color="fg.muted" truncate title={`${t("field.flagged")} / ${t("field.outputs")}`}>
          {manifest.flagged !== null && `${n(manifest.flagged)} / `}{n(manifest.output_count)}
        </chakra.span>
      )}
    </Flex>
  );
};

/** The path of an edge: a curve between columns, straight along its lane through one. */
const pathOf = (route: Route, from: { column: number; y: number }, to: { column: number; y: number }): string => {
  let [x, y] = [from.column * STEP + WIDTH, from.y];
  let path = `M${x},${y}`;
  for (const point of [...route.through, to]) {
    const isEnd = point === to;
    const [left, right] = [point.column * STEP - (isEnd ? 2 : 0), point.column * STEP + WIDTH];
    const bend = (left - x) / 2;
    path += `C${x + bend},${y} ${left - bend},${point.y} ${left},${point.y}`;
    if (!isEnd) path += `H${right}`;
    [x, y] = [right, point.y];
  }
  return path;
};

/** The plan of a cycle, drawn: a column for each wave, arrows from what is read; a dashed frame has no champion. */
export const PlanGraph = ({ plan, manifests = [] }: { plan: Plan; manifests?: Manifest[] }) => {
  const t = useTexts();
  const heightOf = (node: Plan["nodes"][number]) => HEAD + LINE * (node.others.length + (node.champion ? 1 : 0)) + 8;
  const drawing = draw(plan.nodes.map((node) => ({ id: node.model_id, wave: node.wave, height: heightOf(node) })), plan.edges);
  const boxes = new Map(drawing.boxes.map((box) => [box.id, box]));
  const width = drawing.columns * STEP - COLUMN_GAP;
  const live = new Map(manifests.filter((m) => !m.is_replay).map((m) => [m.version.label, m]));
  const needs = (id: string) => plan.edges.filter((edge) => edge.downstream === id).map((edge) => edge.upstream);
  const middle = (id: string) => {
    const box = boxes.get(id);
    return { column: box?.column ?? 0, y: (box?.y ?? 0) + (box?.height ?? 0) / 2 };
  };
  return (
    <Box overflowX="auto" tabIndex={0} role="region" aria-label={t("cycle.plan")} py={1}>
      <Box position="relative" width={`${width}px`} height={`${drawing.height}px`}>
        <svg width={width} height={drawing.height} aria-hidden="true" style={{ position: "absolute", inset: 0 }}>
          <defs>
            <marker id="detection-arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">
              <path d="M0,0L8,4L0,8z" fill={token("fg.muted")} />
            </marker>
          </defs>
          {drawing.routes.map((route) => (
            <path key={`${route.upstream} ${route.downstream}`} d={pathOf(route, middle(route.upstream), middle(route.downstream))} fill="none" stroke={token("fg.muted")} strokeWidth="1.25" markerEnd="url(#detection-arrow)" />
          ))}
        </svg>
        <Box as="ol" m={0} p={0} listStyleType="none">
          {drawing.boxes.map((box) => {
            const node = plan.nodes.find((item) => item.model_id === box.id);
            if (!node) return null;
            const versions = [...(node.champion ? [node.champion] : []), ...node.others];
            return (
              <Box as="li" key={box.id} position="absolute" left={`${box.column * STEP}px`} top={`${box.y}px`} width={`${WIDTH}px`} height={`${box.height}px`} bg="bg" listStyleType="none"
                borderWidth="1px" borderStyle={node.champion ? "solid" : "dashed"} borderColor="border.emphasized" borderRadius="md" px={3} py={1} overflow="hidden">
                <Box fontWeight="semibold" fontSize="sm" h={`${HEAD - 8}px`} truncate>
                  <PageLink to={links.model(box.id)}><Id value={box.id} max={34} /></PageLink>
                </Box>
                {needs(box.id).length > 0 && <chakra.span srOnly>{t("cycle.needs", { models: needs(box.id).join(", ") })}</chakra.span>}
                <Box as="ul" m={0} p={0}>
                  {versions.map((version) => <Version key={version.label} version={version} manifest={live.get(version.label)} />)}
                </Box>
              </Box>
            );
          })}
        </Box>
      </Box>
    </Box>
  );
};
