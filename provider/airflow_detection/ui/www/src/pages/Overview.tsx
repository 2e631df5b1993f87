import { Box, chakra, Flex, SimpleGrid, Stack } from "@chakra-ui/react";

import { route } from "../api/client";
import type { Overview as Answer } from "../api/types";
import { useApi } from "../api/useApi";
import { Strip } from "../charts/Strip";
import { Card } from "../components/Card";
import { DataTable } from "../components/DataTable";
import { Instant, Period } from "../components/Instant";
import { Mark, Outcome, RoleMark, StatusMark, Verdict } from "../components/Mark";
import { PageLink } from "../components/PageLink";
import { Empty, Ready } from "../components/States";
import { Id, Text } from "../components/Text";
import { toneOfVerdict } from "../components/theme";
import { instant, useZone } from "../format/instants";
import { useNumbers } from "../format/numbers";
import { links } from "../links";
import { useTexts } from "../locales";
import { EventTable } from "./EventTable";

const Headline = ({ headline }: { headline: Answer["headline"] }) => {
  const t = useTexts();
  return (
    <Card title={t("overview.headline")} aside={headline && <StatusMark status={headline.status} />}>
      {headline ? (
        <Stack gap={1}>
          <Box fontSize="lg" fontWeight="semibold"><Text value={headline.text} max={300} /></Box>
          <Flex gap={4} wrap="wrap" fontSize="sm" color="fg.muted">
            <Period start={headline.start} end={headline.end} />
            {headline.snapshot_id !== null && <PageLink to={links.report(headline.snapshot_id)}>{t("overview.report")}</PageLink>}
          </Flex>
        </Stack>
      ) : (
        <Empty title={t("overview.no_report")}>{t("overview.no_report_do", { dag: "detection_maintenance" })}</Empty>
      )}
    </Card>
  );
};

const Troubles = ({ troubles }: { troubles: Answer["troubles"] }) => {
  const t = useTexts();
  if (troubles.length === 0) return null;
  return (
    <Card title={t("overview.troubles")}>
      <DataTable label={t("overview.troubles")}
        columns={[{ label: t("field.version") }, { label: t("field.verdict") }, { label: t("field.reason") }, { label: t("field.since") }]}
        rows={troubles.map((trouble) => ({
          key: trouble.label, tone: "bad",
          cells: [
            <PageLink key="m" to={links.model(trouble.model_id)}><Id value={trouble.label} /></PageLink>,
            <Verdict key="v" kind={trouble.kind} />, <Text key="r" value={trouble.reason} max={200} />, <Instant key="s" at={trouble.since} />,
          ],
        }))} />
    </Card>
  );
};

const Promotions = ({ promotions }: { promotions: Answer["promotions"] }) => {
  const t = useTexts();
  return (
    <Card title={t("overview.promotions")}>
      {promotions.length === 0 ? <Empty title={t("overview.no_promotions")} /> : (
        <Stack gap={3}>
          {promotions.map((row) => (
            <Box key={row.promotion_id}>
              <Flex gap={2} align="center" wrap="wrap">
                <chakra.span fontWeight="semibold"><Id value={row.label} /></chakra.span>
                <Mark tone="attention">{row.state}</Mark>
                <Instant at={row.asked_at} />
              </Flex>
              <Box fontSize="sm" color="fg.muted"><bdi>{t("overview.asked", { who: row.asked_by })}</bdi></Box>
              <Box fontSize="sm"><Text value={row.reason} max={160} /></Box>
              {row.dag_id && row.run_id && row.task_id && (
                <PageLink to={links.task(row.dag_id, row.run_id, row.task_id, "required_actions")}>{t("overview.decide")}</PageLink>
              )}
            </Box>
          ))}
        </Stack>
      )}
    </Card>
  );
};

const Cycles = ({ cycles }: { cycles: Answer["cycles"] }) => {
  const t = useTexts();
  const n = useNumbers();
  if (cycles.length === 0) return <Card title={t("overview.cycles")}><Empty title={t("overview.no_cycles")}>{t("overview.no_cycles_do")}</Empty></Card>;
  return (
    <Card title={t("overview.cycles")}>
      <DataTable label={t("overview.cycles")}
        columns={[{ label: t("field.cycle") }, { label: t("overview.newest") }, { label: t("overview.lateness") }, { label: t("overview.outcomes") }, { label: t("field.dag") }]}
        rows={cycles.map((cycle) => ({
          key: cycle.cycle_id, tone: cycle.is_late ? "attention" : null,
          cells: [
            <Box key="c">
              <PageLink to={links.cycle(cycle.cycle_id)}><Id value={cycle.cycle_id} /></PageLink>
              <Box fontSize="xs" color="fg.muted" fontWeight="normal">{t("overview.schedule")}: <bdi>{cycle.schedule}</bdi></Box>
            </Box>,
            cycle.newest ? <Instant key="n" at={cycle.newest} /> : t("overview.never"),
            cycle.is_enabled ? (
              <Mark key="l" tone={cycle.is_late ? "attention" : "ok"}>
                {cycle.is_late ? t("overview.late") : t("overview.in_time")}{cycle.lateness_s !== null && ` ${n(cycle.lateness_s, "seconds")}`}
              </Mark>
            ) : <Mark key="l" tone="none">{t("overview.disabled")}</Mark>,
            <Flex key="o" gap={1} wrap="wrap">
              {Object.entries(cycle.outcomes).map(([outcome, count]) => <Box key={outcome} whiteSpace="nowrap"><Outcome outcome={outcome} /> {n(count)}</Box>)}
            </Flex>,
            <PageLink key="d" to={links.dag(cycle.dag_id)}><Id value={cycle.dag_id} /></PageLink>,
          ],
        }))} />
    </Card>
  );
};

type ModelRow = Answer["models"][number];

const ModelStrip = ({ model }: { model: ModelRow }) => {
  const t = useTexts();
  const zone = useZone();
  const counts = new Map<string, number>();
  for (const cell of model.strip) counts.set(cell.kind, (counts.get(cell.kind) ?? 0) + 1);
  const summary = [...counts].map(([kind, count]) => `${kind} ${count}`).join(", ") || t("state.none");
  return (
    <Strip label={`${t("overview.strip")}: ${summary}`}
      cells={model.strip.map((cell) => ({ tone: toneOfVerdict(cell.kind), title: `${instant(cell.at, zone)} ${cell.kind}` }))} />
  );
};

const Models = ({ models }: { models: ModelRow[] }) => {
  const t = useTexts();
  if (models.length === 0) return null;
  return (
    <Card title={t("overview.models")}>
      <DataTable label={t("overview.models")}
        columns={[{ label: t("field.model") }, { label: t("overview.champion") }, { label: t("overview.strip") }, { label: t("field.verdict") }, { label: t("overview.others") }]}
        rows={models.map((model) => {
          const last = model.strip.at(-1);
          return {
            key: model.model_id, tone: last && toneOfVerdict(last.kind) === "bad" ? "bad" : null,
            cells: [
              <PageLink key="m" to={links.model(model.model_id)}><Id value={model.model_id} /></PageLink>,
              model.champion ? <Id key="c" value={model.champion.version} /> : <Mark key="c" tone="attention">{t("overview.no_champion")}</Mark>,
              <ModelStrip key="s" model={model} />,
              <Verdict key="v" kind={last?.kind ?? null} />,
              <Flex key="o" gap={3} wrap="wrap">
                {model.others.map((other) => (
                  <Flex key={other.label} gap={1} align="center">
                    {model.champion
                      ? <PageLink to={links.compare(model.champion.label, other.label)} label={t("overview.compare", { label: other.label })}><Id value={other.version} /></PageLink>
                      : <Id value={other.version} />}
                    <RoleMark role={other.role} />
                  </Flex>
                ))}
                {model.others.length === 0 && "–"}
              </Flex>,
            ],
          };
        })} />
    </Card>
  );
};

/** The first page: what the last report says, what runs, what needs a person. */
export const Overview = () => {
  const t = useTexts();
  const loaded = useApi<Answer>(route("overview"), 60);
  return (
    <Ready loaded={loaded}>
      {(data) => (
        <Stack gap={4}>
          <SimpleGrid columns={{ base: 1, xl: 2 }} gap={4}>
            <Headline headline={data.headline} />
            <Promotions promotions={data.promotions} />
          </SimpleGrid>
          <Troubles troubles={data.troubles} />
          <Models models={data.models} />
          <Card title={t("overview.events", { count: data.open_events })} aside={<PageLink to={links.events()}>{t("overview.all_events")}</PageLink>}>
            {data.events.length === 0 ? <Empty title={t("overview.no_events")} /> : <EventTable events={data.events} mayEdit={data.may_edit} changed={loaded.reload} />}
          </Card>
          <Cycles cycles={data.cycles} />
        </Stack>
      )}
    </Ready>
  );
};
