import { Box, chakra, Flex, SimpleGrid, Stack } from "@chakra-ui/react";

import { route } from "../api/client";
import type { Model as Answer, ModelSeries, Overview } from "../api/types";
import { useApi } from "../api/useApi";
import { LineChart } from "../charts/LineChart";
import { ScoreHeat } from "../charts/ScoreHeat";
import { Strip } from "../charts/Strip";
import { Card } from "../components/Card";
import { DataTable } from "../components/DataTable";
import { Choose } from "../components/Fields";
import { Instant } from "../components/Instant";
import { Mark, RoleMark } from "../components/Mark";
import { PageLink } from "../components/PageLink";
import { type Range, RangeFields, useRange } from "../components/Range";
import { Empty, Loading, Ready } from "../components/States";
import { Id, Text } from "../components/Text";
import { toneOfVerdict } from "../components/theme";
import { useAddress } from "../components/useAddress";
import { instant, useZone } from "../format/instants";
import { useNumbers } from "../format/numbers";
import { asText } from "../format/text";
import { links } from "../links";
import { useTexts } from "../locales";

/** The params of versions side by side: one row for each name, `differs` where they are not all the same. */
export const paramRows = (versions: { params: Record<string, unknown> }[]): { name: string; values: (string | null)[]; differs: boolean }[] => {
  const names = [...new Set(versions.flatMap((version) => Object.keys(version.params)))].sort();
  return names.map((name) => {
    const values = versions.map((version) => (name in version.params ? asText(version.params[name]) : null));
    return { name, values, differs: new Set(values).size > 1 };
  });
};

const Artifact = ({ artifact }: { artifact: Answer["versions"][number]["artifact"] }) => {
  const t = useTexts();
  if (!artifact) return <chakra.span color="fg.muted">{t("model.no_artifact")}</chakra.span>;
  return (
    <Box>
      <Text value={artifact.uri} max={80} mono />
      <Box fontSize="xs" color="fg.muted">sha256 <Text value={artifact.sha256} max={16} mono /></Box>
    </Box>
  );
};

const Training = ({ trained }: { trained: Answer["versions"][number]["trained"] }) => {
  const t = useTexts();
  const n = useNumbers();
  if (!trained) return <chakra.span color="fg.muted">{t("model.not_trained")}</chakra.span>;
  const metrics = Object.entries(trained.metrics).map(([name, value]) => `${name} ${n(value, "number")}`);
  return (
    <Box>
      <Box><Instant at={trained.data_start} /> – <Instant at={trained.data_end} /></Box>
      <Box fontSize="xs" color="fg.muted">
        {t("model.trained_from", { base: trained.base_version, rows: n(trained.row_count, "count"), labels: n(trained.label_count, "count") })} <Instant at={trained.as_of} />
      </Box>
      {metrics.length > 0 && <Box fontSize="xs"><Text value={metrics.join(" · ")} max={160} /></Box>}
    </Box>
  );
};

const Versions = ({ model }: { model: Answer }) => {
  const t = useTexts();
  const { versions } = model;
  const rows = paramRows(versions);
  const own = (label: string, cells: React.ReactNode[]) => ({ key: `:${label}`, cells: [label, ...cells] });
  return (
    <Card title={t("model.versions")}
      aside={versions.length > 1 && <PageLink to={links.compare(versions.find((v) => v.role === "PRIMARY")?.label, versions.find((v) => v.role !== "PRIMARY")?.label)}>{t("model.compare")}</PageLink>}>
      <DataTable label={t("model.versions")}
        columns={[{ label: t("model.param"), width: "14rem" }, ...versions.map((version) => ({ label: version.label }))]}
        rows={[
          own(t("field.role"), versions.map((v) => <RoleMark key={v.label} role={v.role} />)),
          own(t("model.entry_point"), versions.map((v) => <Text key={v.label} value={v.entry_point} max={80} mono />)),
          ...(versions.some((v) => v.artifact) ? [own(t("model.artifact"), versions.map((v) => <Artifact key={v.label} artifact={v.artifact} />))] : []),
          ...(versions.some((v) => v.trained) ? [own(t("model.trained"), versions.map((v) => <Training key={v.label} trained={v.trained} />))] : []),
          own(t("model.registered"), versions.map((v) => <Instant key={v.label} at={v.registered_at} />)),
          ...rows.map((row) => ({
            key: row.name, tone: row.differs ? ("attention" as const) : null,
            cells: [
              <Flex key="n" gap={2} wrap="wrap"><Text value={row.name} max={60} mono />{row.differs && <Mark tone="attention">{t("model.differs")}</Mark>}</Flex>,
              ...row.values.map((value, n) => value === null ? <chakra.span key={n} color="fg.muted">{t("model.unset")}</chakra.span> : <Text key={n} value={value} max={160} mono />),
            ],
          })),
        ]} />
      {rows.length === 0 && <Box fontSize="sm" color="fg.muted" mt={2}>{t("model.no_params")}</Box>}
    </Card>
  );
};

const Roles = ({ model }: { model: Answer }) => {
  const t = useTexts();
  return (
    <Card title={t("model.roles")}>
      <DataTable label={t("model.roles")}
        columns={[{ label: t("field.version") }, { label: t("field.role") }, { label: t("field.since") }, { label: t("field.until") }, { label: t("field.who") }, { label: t("field.reason") }, { label: t("model.recorded") }]}
        rows={model.roles.map((role, n) => {
          const past = role.superseded_at ? "line-through" : undefined;
          return {
            key: n, tone: role.is_correction ? "attention" : null,
            cells: [
              <chakra.span key="v" textDecoration={past}><Id value={role.version} /></chakra.span>,
              <Flex key="r" gap={1} wrap="wrap"><RoleMark role={role.role} />{role.is_correction && <Mark tone="attention">{t("model.correction")}</Mark>}</Flex>,
              <Instant key="s" at={role.since} />,
              role.until ? <Instant key="u" at={role.until} /> : t("state.now"),
              <Text key="w" value={role.actor} max={60} />,
              <Text key="y" value={role.reason} max={160} />,
              <Box key="t"><Instant at={role.recorded_at} />{role.superseded_at && <Box fontSize="xs" color="fg.muted">{t("model.superseded", { at: role.superseded_at.slice(0, 16) })}</Box>}</Box>,
            ],
          };
        })} />
    </Card>
  );
};

const Series = ({ series }: { series: ModelSeries }) => {
  const t = useTexts();
  const n = useNumbers();
  const zone = useZone();
  const lines = series.lines.filter((line) => line.cycles.some((count) => count > 0));
  if (lines.length === 0) return <Empty title={t("model.no_series")}>{t("model.no_series_do")}</Empty>;
  const named = (line: (typeof lines)[number]) => (line.is_replay ? t("chart.replay", { label: line.label }) : line.label);
  const chart = (title: string, pick: (line: (typeof lines)[number]) => (number | null)[], kind: "count" | "ms" = "count") => (
    <LineChart title={title} at={series.at} format={(value) => n(value, kind)}
      lines={lines.map((line) => ({ label: named(line), values: pick(line), isDashed: line.is_replay }))} />
  );
  return (
    <Stack gap={6}>
      <SimpleGrid columns={{ base: 1, xl: 2 }} gap={6}>
        {chart(t("model.flagged"), (line) => line.flagged)}
        {chart(t("model.inputs"), (line) => line.inputs)}
        {chart(t("model.median"), (line) => line.median_ms, "ms")}
        {chart(t("model.p95"), (line) => line.p95_ms, "ms")}
      </SimpleGrid>
      <Box>
        <Box fontSize="sm" fontWeight="medium" mb={1}>{t("model.verdicts")}</Box>
        <Stack gap={2}>
          {lines.map((line) => (
            <Flex key={named(line)} gap={3} align="center" wrap="wrap" fontSize="sm">
              <Box width="14rem" maxW="100%" overflowWrap="anywhere"><Id value={named(line)} /></Box>
              <Box overflow="hidden" minW={0}>
                <Strip width={line.verdicts.length > 60 ? 4 : 9} label={`${t("model.verdicts")} ${named(line)}: ${[...new Set(line.verdicts.filter(Boolean))].join(", ") || t("state.none")}`}
                  cells={line.verdicts.map((kind, place) => ({ tone: toneOfVerdict(kind), title: `${instant(series.at[place] ?? "", zone)} ${kind ?? t("state.none")}` }))} />
              </Box>
            </Flex>
          ))}
        </Stack>
      </Box>
      <Box>
        <Box fontSize="sm" fontWeight="medium">{t("model.buckets")}</Box>
        <Box fontSize="xs" color="fg.muted" mb={2}>{t("model.buckets_note")}</Box>
        <SimpleGrid columns={{ base: 1, md: 2, xl: 3 }} gap={4}>
          {lines.map((line) => (
            <Box key={named(line)} minW={0}>
              <Box fontSize="xs" mb={1}><Id value={named(line)} /></Box>
              <Flex gap={2}>
                <Flex direction="column" justify="space-between" fontSize="2xs" color="fg.muted" aria-hidden="true">{[...series.ranges].reverse().map((name) => <span key={name}>{name}</span>)}</Flex>
                <Box flex="1" minW={0}><ScoreHeat label={`${t("model.buckets")} ${named(line)}`} at={series.at} ranges={series.ranges} buckets={line.score_buckets} /></Box>
              </Flex>
            </Box>
          ))}
        </SimpleGrid>
      </Box>
    </Stack>
  );
};

const Details = ({ model, range }: { model: Answer; range: Range }) => {
  const t = useTexts();
  const n = useNumbers();
  const series = useApi<ModelSeries>(route(`models/${encodeURIComponent(model.model_id)}/series`, { start: range.start, end: range.end }));
  return (
    <Stack gap={4}>
      <Box>
        {model.description && <Box><Text value={model.description} max={400} /></Box>}
        <Flex gap={4} wrap="wrap" fontSize="sm" color="fg.muted">
          <span>{t("field.cycle")}: <PageLink to={links.cycle(model.cycle_id)}><Id value={model.cycle_id} /></PageLink></span>
          {model.score_key !== null && <span>{model.flagged_above === null ? t("model.no_events") : t("model.flagged_above", { above: n(model.flagged_above, "number") })}</span>}
          {model.score_key !== null && <span>{Object.entries(model.severity).sort((a, b) => a[1] - b[1]).map(([name, above]) => `${name} > ${n(above, "number")}`).join(", ")}</span>}
          {model.depends_on.length > 0 && <span>{t("model.depends")}: {model.depends_on.map((up) => <chakra.span key={up} me={2}><PageLink to={links.model(up)}><Id value={up} /></PageLink></chakra.span>)}</span>}
        </Flex>
      </Box>
      <Card title={t("model.series")} aside={<Flex gap={3} wrap="wrap"><RangeFields range={range} /></Flex>}>
        <Ready loaded={series}>{(data) => <Series series={data} />}</Ready>
      </Card>
      <Versions model={model} />
      <Roles model={model} />
    </Stack>
  );
};

/** One model: its versions, who held which role, and what they did over time. */
export const Model = () => {
  const t = useTexts();
  const [read, change] = useAddress();
  const overview = useApi<Overview>(route("overview"));
  const model_id = read("model");
  const loaded = useApi<Answer>(model_id ? route(`models/${encodeURIComponent(model_id)}`) : null);
  const cycle = overview.data?.cycles.find((item) => item.cycle_id === loaded.data?.cycle_id);
  const range = useRange(cycle?.newest);
  const known = overview.data?.models.map((model) => model.model_id) ?? [];
  const choices = [...new Set([...(model_id ? [model_id] : []), ...known])];
  return (
    <Stack gap={4}>
      <Choose label={t("field.model")} value={model_id} onChange={(model) => { change({ model }); }}
        choices={[...(model_id ? [] : [{ value: "", label: "…" }]), ...choices.map((value) => ({ value, label: value }))]} />
      {overview.error && <Ready loaded={overview}>{() => null}</Ready>}
      {model_id === "" && <Empty title={t("model.choose")}>{t("model.choose_do")}</Empty>}
      <Ready loaded={loaded}>{(model) => (overview.isLoading ? <Loading /> : <Details model={model} range={range} />)}</Ready>
    </Stack>
  );
};
