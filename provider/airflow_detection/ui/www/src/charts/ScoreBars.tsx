import { Box, chakra, Flex } from "@chakra-ui/react";

import { token } from "../components/theme";
import { useNumbers } from "../format/numbers";
import { useWidth } from "./useWidth";

const HEIGHT = 170;
const BOTTOM = 20;

/** Counts by score from `low` to `high`, logarithmic; another version's as an outline over them. */
export const ScoreBars = ({ label, low, high, own, other }: {
  label: string; low: number; high: number; own: { label: string; counts: number[] }; other?: { label: string; counts: number[] } | null;
}) => {
  const n = useNumbers();
  const [ref, width] = useWidth(560);
  const buckets = own.counts.length;
  const top = Math.log1p(Math.max(1, ...own.counts, ...(other?.counts ?? [])));
  const step = width / Math.max(1, buckets);
  const y = (count: number) => HEIGHT - BOTTOM - (Math.log1p(count) / top) * (HEIGHT - BOTTOM - 18);
  const bound = (place: number) => n(low + ((high - low) * place) / buckets, "number");
  return (
    <Box as="figure" m={0}>
      <Flex as="figcaption" gap={4} fontSize="xs" mb={1} wrap="wrap">
        <Flex align="center" gap={1.5}><svg width="14" height="12" aria-hidden="true"><rect width="14" height="12" fill={token("blue.solid")} /></svg><bdi>{own.label}</bdi></Flex>
        {other && <Flex align="center" gap={1.5}><svg width="14" height="12" aria-hidden="true"><path d="M0,3H14" stroke={token("orange.fg")} strokeWidth="2" strokeDasharray="4 2" /></svg><bdi>{other.label}</bdi></Flex>}
      </Flex>
      <div ref={ref}>
        <svg role="img" aria-label={label} width={width} height={HEIGHT} style={{ display: "block", maxWidth: "100%" }}>
          <line x1="0" x2={width} y1={HEIGHT - BOTTOM} y2={HEIGHT - BOTTOM} stroke={token("border.emphasized")} />
          {own.counts.map((count, place) => (
            <g key={place}>
              <title>{`${bound(place)}–${bound(place + 1)}: ${n(count)}${other ? ` / ${n(other.counts[place] ?? 0)}` : ""}`}</title>
              <rect x={place * step} y="0" width={step} height={HEIGHT - BOTTOM} fill="transparent" />
              {count > 0 && <rect x={place * step + 1} y={y(count)} width={Math.max(1, step - 2)} height={HEIGHT - BOTTOM - y(count)} fill={token("blue.solid")} />}
              {count > 0 && step > 22 && <text x={(place + 0.5) * step} y={y(count) - 4} style={{ fontSize: "10px" }} textAnchor="middle" fill={token("fg")}>{n(count)}</text>}
              {other && <line x1={place * step} x2={(place + 1) * step} y1={y(other.counts[place] ?? 0)} y2={y(other.counts[place] ?? 0)} stroke={token("orange.fg")} strokeWidth="2" strokeDasharray="4 2" />}
            </g>
          ))}
          {[0, 0.2, 0.4, 0.6, 0.8, 1].map((part) => (
            <text key={part} x={part * width} y={HEIGHT - 6} style={{ fontSize: "11px" }} fill={token("fg.muted")} textAnchor={part === 0 ? "start" : part === 1 ? "end" : "middle"}>{n(low + (high - low) * part, "number")}</text>
          ))}
        </svg>
      </div>
      <chakra.span srOnly>{own.counts.map((count, place) => `${bound(place)}–${bound(place + 1)}: ${count}`).join("; ")}</chakra.span>
    </Box>
  );
};
