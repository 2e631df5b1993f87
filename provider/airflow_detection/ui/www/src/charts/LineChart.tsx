import { Box, chakra, Flex, Table } from "@chakra-ui/react";
import { type KeyboardEvent, type PointerEvent, useState } from "react";

import { LINES, token } from "../components/theme";
import { instant, tick, useZone } from "../format/instants";
import { visible } from "../format/text";
import { useTexts } from "../locales";
import { scale, spread, stretches, ticks } from "./scale";
import { useWidth } from "./useWidth";

export type ChartLine = { label: string; values: (number | null)[]; isDashed?: boolean; hue?: number };
type Threshold = { value: number; label: string };

const MARGIN = { left: 58, right: 12, top: 10, bottom: 22 };
const SHAPES = [
  "M-3,0a3,3 0 1,0 6,0a3,3 0 1,0 -6,0",
  "M-3,-3h6v6h-6z",
  "M0,-4L3.6,3H-3.6z",
  "M0,-4L4,0L0,4L-4,0z",
  "M-3.6,-3H3.6L0,4z",
  "M-3,-1h2v-2h2v2h2v2h-2v2h-2v-2h-2z",
];

const colourOf = (line: ChartLine, n: number): string => LINES[((line.hue ?? 0) > 0 ? (line.hue ?? 1) - 1 : n) % LINES.length] ?? "";
const shapeOf = (n: number): string => SHAPES[n % SHAPES.length] ?? "";

/** The sample of a line in a legend: its stroke and its shape, so that its colour is not all there is. */
const Sample = ({ line, n }: { line: ChartLine; n: number }) => (
  <svg width="28" height="12" aria-hidden="true" style={{ flex: "none" }}>
    <line x1="1" x2="27" y1="6" y2="6" stroke={colourOf(line, n)} strokeWidth="2" strokeDasharray={line.isDashed ? "4 3" : undefined} />
    <path d={shapeOf(n)} transform="translate(14,6)" fill={line.isDashed ? token("bg") : colourOf(line, n)} stroke={colourOf(line, n)} />
  </svg>
);

/** Lines over instants (or over numbers): values at a point by pointer or arrow keys, and as a table. */
export const LineChart = ({ title, at, lines, format, threshold, xLabel, height = 180 }: {
  title: string; at: (string | number)[]; lines: ChartLine[]; format: (value: number | null) => string;
  threshold?: Threshold; xLabel?: string; height?: number;
}) => {
  const t = useTexts();
  const zone = useZone();
  const [ref, width] = useWidth(600);
  const [active, setActive] = useState<number | null>(null);
  const all = lines.flatMap((line) => line.values).filter((value) => value !== null);
  if (at.length === 0 || all.length === 0) return <Box color="fg.muted" fontSize="sm" py={2}>{t("chart.empty")}</Box>;
  const bounds = threshold ? [...all, threshold.value] : all;
  const marks = ticks(Math.min(0, ...bounds), Math.max(...bounds, Math.min(...bounds) + 1e-9));
  const low = marks[0] ?? 0;
  const high = marks.at(-1) ?? 1;
  const numbers = at.map((x) => (typeof x === "number" ? x : Date.parse(x)));
  const first = numbers[0] ?? 0;
  const last = numbers.at(-1) ?? 1;
  const x = scale(first, last, MARGIN.left, width - MARGIN.right);
  const y = scale(low, high, height - MARGIN.bottom, MARGIN.top);
  const textOfX = (n: number): string => {
    const value = at[n] ?? "";
    return typeof value === "number" ? String(value) : tick(value, zone, last - first);
  };
  const fullX = (n: number): string => {
    const value = at[n] ?? "";
    return typeof value === "number" ? `${xLabel ?? ""} ${value}` : instant(value, zone);
  };
  const nearest = (event: PointerEvent<SVGSVGElement>) => {
    const place = event.clientX - event.currentTarget.getBoundingClientRect().left;
    let best = 0;
    numbers.forEach((value, n) => {
      if (Math.abs(x(value) - place) < Math.abs(x(numbers[best] ?? 0) - place)) best = n;
    });
    setActive(best);
  };
  const onKey = (event: KeyboardEvent) => {
    if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
    event.preventDefault();
    const from = active ?? at.length;
    setActive(Math.max(0, Math.min(at.length - 1, from + (event.key === "ArrowLeft" ? -1 : 1))));
  };
  const hasDots = at.length <= 60;
  const shownAt = active ?? at.length - 1;
  return (
    <Box as="figure" m={0} minW={0}>
      <Flex as="figcaption" wrap="wrap" columnGap={4} rowGap={1} fontSize="sm" align="center" mb={1}>
        <chakra.span fontWeight="medium">{title}</chakra.span>
        <chakra.span color="fg.muted" fontSize="xs" aria-live="polite">{t("chart.at", { at: fullX(shownAt) })}</chakra.span>
      </Flex>
      <Flex wrap="wrap" columnGap={4} rowGap={0} fontSize="xs" mb={1}>
        {lines.map((line, n) => (
          <Flex key={n} align="center" gap={1.5} minW={0}>
            <Sample line={line} n={n} />
            <chakra.span overflowWrap="anywhere"><bdi>{visible(line.label.slice(0, 80))}</bdi></chakra.span>
            <chakra.span color="fg.muted" fontVariantNumeric="tabular-nums">{format(line.values[shownAt] ?? null)}</chakra.span>
          </Flex>
        ))}
      </Flex>
      <div ref={ref}>
        <svg
          role="img" aria-label={`${title}: ${lines.map((line) => line.label.slice(0, 80)).join(", ")}. ${t("chart.keys")}`}
          tabIndex={0} width={width} height={height} style={{ display: "block", maxWidth: "100%", touchAction: "pan-y" }}
          onPointerMove={nearest} onPointerLeave={() => { setActive(null); }} onKeyDown={onKey} onBlur={() => { setActive(null); }}
        >
          {marks.map((mark) => (
            <g key={mark}>
              <line x1={MARGIN.left} x2={width - MARGIN.right} y1={y(mark)} y2={y(mark)} stroke={token("border")} />
              <text x={MARGIN.left - 6} y={y(mark) + 4} textAnchor="end" style={{ fontSize: "11px" }} fill={token("fg.muted")}>{format(mark)}</text>
            </g>
          ))}
          {spread(at.length, Math.max(2, Math.floor(width / 110))).map((n, place, places) => (
            <text key={n} x={x(numbers[n] ?? 0)} y={height - 6} style={{ fontSize: "11px" }} fill={token("fg.muted")}
              textAnchor={place === 0 && places.length > 1 ? "start" : place === places.length - 1 && places.length > 1 ? "end" : "middle"}>
              {textOfX(n)}
            </text>
          ))}
          {threshold && (
            <g>
              <line x1={MARGIN.left} x2={width - MARGIN.right} y1={y(threshold.value)} y2={y(threshold.value)} stroke={token("fg.muted")} strokeDasharray="2 4" strokeWidth="1.5" />
              <text x={width - MARGIN.right} y={y(threshold.value) - 4} textAnchor="end" style={{ fontSize: "11px" }} fill={token("fg")}>{threshold.label}</text>
            </g>
          )}
          {active !== null && <line x1={x(numbers[active] ?? 0)} x2={x(numbers[active] ?? 0)} y1={MARGIN.top} y2={height - MARGIN.bottom} stroke={token("fg.muted")} />}
          {lines.map((line, n) => (
            <g key={n} stroke={colourOf(line, n)} fill={line.isDashed ? token("bg") : colourOf(line, n)}>
              {stretches(line.values).map((places) => (
                <polyline key={places[0]} fill="none" strokeWidth="1.75" strokeLinejoin="round" strokeDasharray={line.isDashed ? "5 4" : undefined}
                  points={places.map((p) => `${x(numbers[p] ?? 0)},${y(line.values[p] ?? 0)}`).join(" ")} />
              ))}
              {line.values.map((value, p) =>
                value !== null && (hasDots || p === active || (line.values[p - 1] ?? null) === (line.values[p + 1] ?? null)) && (hasDots || p === active)
                  ? <path key={p} d={shapeOf(n)} transform={`translate(${x(numbers[p] ?? 0)},${y(value)})`} />
                  : null,
              )}
            </g>
          ))}
        </svg>
      </div>
      <chakra.details fontSize="xs" color="fg.muted">
        <chakra.summary cursor="pointer" width="fit-content">{t("chart.table")}</chakra.summary>
        <Box maxH="16rem" overflow="auto" tabIndex={0} role="region" aria-label={title}>
          <Table.Root size="sm" fontSize="xs">
            <Table.Header>
              <Table.Row>
                <Table.ColumnHeader>{xLabel ?? t("chart.time")}</Table.ColumnHeader>
                {lines.map((line, n) => <Table.ColumnHeader key={n} textAlign="end"><bdi>{visible(line.label.slice(0, 80))}</bdi></Table.ColumnHeader>)}
              </Table.Row>
            </Table.Header>
            <Table.Body>
              {at.map((_, p) => (
                <Table.Row key={p}>
                  <Table.Cell>{fullX(p)}</Table.Cell>
                  {lines.map((line, n) => <Table.Cell key={n} textAlign="end">{format(line.values[p] ?? null)}</Table.Cell>)}
                </Table.Row>
              ))}
            </Table.Body>
          </Table.Root>
        </Box>
      </chakra.details>
    </Box>
  );
};
