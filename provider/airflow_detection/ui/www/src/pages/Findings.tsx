import { Box, chakra, Flex, SimpleGrid, Stack } from "@chakra-ui/react";
import { useState } from "react";

import { type Query, route } from "../api/client";
import type { Findings as Answer, OutputRow } from "../api/types";
import { useApi, usePages } from "../api/useApi";
import { ScoreBars } from "../charts/ScoreBars";
import { Card } from "../components/Card";
import { DataTable } from "../components/DataTable";
import { Evidence } from "../components/Evidence";
import { Facts } from "../components/Facts";
import { TextField } from "../components/Fields";
import { Instant } from "../components/Instant";
import { Mark, Outcome, RoleMark } from "../components/Mark";
import { PageLink } from "../components/PageLink";
import { Empty, Problem, Ready } from "../components/States";
import { Id, Text } from "../components/Text";
import { useAddress } from "../components/useAddress";
import { useNumbers } from "../format/numbers";
import { links } from "../links";
import { useTexts } from "../locales";

const SHOWN = ["entity_id", "score"]; // they have columns of their own

const Outputs = ({ keys, findings }: { keys: Query; findings: Answer }) => {
  const t = useTexts();
  const n = useNumbers();
  const [prefix, setPrefix] = useState("");
  const loaded = usePages<OutputRow>(route("findings/outputs", { ...keys, q: prefix.trim(), limit: 20 }));
  const besides = findings.champion ? [{ label: t("findings.champion_score"), isNumber: true }] : [];
  return (
    <Card title={t("findings.highest")} aside={<TextField label={t("findings.prefix")} value={prefix} onChange={setPrefix} width="12rem" />}>
      <Ready loaded={loaded}>
        {(rows) => rows.length === 0 ? <Empty title={t("findings.no_outputs")} /> : (
          <DataTable label={t("findings.highest")} more={loaded.more} isLoading={loaded.isLoading}
            columns={[{ label: t("field.entity"), isShort: true }, { label: t("field.score"), isNumber: true }, ...besides, { label: t("field.evidence") }, { label: t("findings.input_ref") }]}
            rows={rows.map((row, place) => ({
              key: place,
              cells: [
                row.entity_id === null ? "–" : <PageLink key="e" to={links.entity(row.entity_id, findings.cycle_id)}><Id value={row.entity_id} max={40} /></PageLink>,
                n(row.score, "score"), ...(findings.champion ? [n(row.champion_score, "score")] : []),
                <Evidence key="v" values={row.outputs} without={SHOWN} />, <Evidence key="i" values={row.input_ref} />,
              ],
            }))} />
        )}
      </Ready>
    </Card>
  );
};

const Canaries = ({ canaries }: { canaries: Answer["canaries"] }) => {
  const t = useTexts();
  const n = useNumbers();
  return (
    <Card title={t("findings.canaries")}>
      {canaries.length === 0 ? <Empty title={t("findings.no_canaries")} /> : (
        <DataTable label={t("findings.canaries")} columns={[{ label: t("findings.canary") }, { label: t("findings.expected"), isNumber: true }, { label: t("field.score"), isNumber: true }, { label: t("field.status") }]}
          rows={canaries.map((canary, place) => ({
            key: place, tone: canary.is_wrong ? "bad" : null,
            cells: [<Text key="n" value={canary.name} max={80} />, n(canary.expected, "score"), n(canary.score, "score"), <Mark key="s" tone={canary.is_wrong ? "bad" : "ok"}>{t(canary.is_wrong ? "findings.wrong" : "findings.right")}</Mark>],
          }))} />
      )}
    </Card>
  );
};

const Features = ({ findings }: { findings: Answer }) => {
  const t = useTexts();
  const n = useNumbers();
  const metrics = Object.entries(findings.metrics);
  return (
    <Card title={t("findings.features")}>
      {findings.features.length === 0 ? <Empty title={t("findings.no_features")} /> : (
        <DataTable label={t("findings.features")} columns={[{ label: t("findings.feature") }, { label: t("findings.now"), isNumber: true }, { label: t("findings.usual"), isNumber: true }]}
          rows={findings.features.map((feature, place) => ({ key: place, cells: [<Text key="n" value={feature.name} max={80} />, n(feature.now, "number"), n(feature.usual, "number")] }))} />
      )}
      {metrics.length > 0 && (
        <chakra.details mt={3} fontSize="sm"><chakra.summary cursor="pointer">{t("findings.metrics")}</chakra.summary><Evidence values={findings.metrics} /></chakra.details>
      )}
    </Card>
  );
};

const Details = ({ findings, keys }: { findings: Answer; keys: Query }) => {
  const t = useTexts();
  const n = useNumbers();
  const { version, champion } = findings;
  return (
    <Stack gap={4}>
      <Flex gap={3} wrap="wrap" align="center">
        <chakra.h2 fontSize="xl" fontWeight="semibold" overflowWrap="anywhere"><PageLink to={links.model(version.model_id)}><Id value={version.label} /></PageLink></chakra.h2>
        <RoleMark role={version.role} /><Outcome outcome={findings.outcome} />{findings.is_replay && <Mark tone="none">{t("cycle.replay")}</Mark>}
        <PageLink to={links.cycle(findings.cycle_id, findings.at)}>{t("field.cycle")} <Instant at={findings.at} /></PageLink>
        {champion && version.role !== "PRIMARY" && <PageLink to={links.compare(champion.version.label, version.label)}>{t("tab.compare")}</PageLink>}
      </Flex>
      {findings.error && <Box><Text value={findings.error} max={600} /></Box>}
      <Card title={t("findings.distribution")} note={t("findings.distribution_note")}>
        <Flex gap={8} wrap="wrap">
          <Facts facts={[
            { label: t("findings.count"), value: n(findings.output_count), note: version.label },
            ...(champion ? [{ label: t("findings.count"), value: n(champion.output_count), note: champion.version.label }] : []),
          ]} />
          <Box flex="1" minW="18rem">
            <ScoreBars label={`${t("findings.distribution")} ${version.label}`} low={findings.score_low} high={findings.score_high} own={{ label: version.label, counts: findings.score_buckets }}
              other={champion ? { label: `${champion.version.label} (${t("findings.champion")})`, counts: champion.score_buckets } : null} />
          </Box>
        </Flex>
      </Card>
      <Outputs keys={keys} findings={findings} />
      <SimpleGrid columns={{ base: 1, xl: 2 }} gap={4}><Canaries canaries={findings.canaries} /><Features findings={findings} /></SimpleGrid>
    </Stack>
  );
};

const FindingsBy = ({ keys }: { keys: Query }) => {
  const t = useTexts();
  const loaded = useApi<Answer>(route("findings", keys));
  if (loaded.error?.status === 404) return <Empty title={t("findings.none")}>{loaded.error.detail} {t("findings.none_do")}</Empty>;
  if (loaded.error) return <Problem error={loaded.error} retry={loaded.reload} />;
  return <Ready loaded={loaded}>{(findings) => <Details findings={findings} keys={keys} />}</Ready>;
};

/** What one version found in one cycle, as the address names them. */
export const Findings = () => {
  const t = useTexts();
  const [read] = useAddress();
  const keys = { model_id: read("model"), version: read("version"), at: read("at"), replay: read("replay") || "false" };
  if (!keys.model_id || !keys.version || !keys.at) return <Empty title={t("findings.which")}>{t("findings.which_do")}</Empty>;
  return <FindingsBy keys={keys} />;
};

/** The tab of a task, or of one of its instances. */
export const FindingsOfTask = ({ dagId, runId, taskId, mapIndex }: { dagId: string; runId?: string; taskId?: string; mapIndex?: string }) => {
  const t = useTexts();
  if (!runId || !taskId) return <Empty title={t("findings.which")}>{t("findings.which_do")}</Empty>;
  return <FindingsBy keys={{ dag_id: dagId, run_id: runId, task_id: taskId, map_index: mapIndex ?? "-1" }} />;
};
