import { Flex, Link, Stack } from "@chakra-ui/react";

import { route } from "../api/client";
import type { Report } from "../api/report";
import type { ReportRow } from "../api/types";
import { useApi, usePages } from "../api/useApi";
import { Card } from "../components/Card";
import { DataTable } from "../components/DataTable";
import { Choose } from "../components/Fields";
import { Instant, Period } from "../components/Instant";
import { StatusMark } from "../components/Mark";
import { PageLink } from "../components/PageLink";
import { Empty, Loading, Ready } from "../components/States";
import { Text } from "../components/Text";
import { useAddress } from "../components/useAddress";
import { links } from "../links";
import { useTexts } from "../locales";
import { ReportBody } from "./ReportBody";

const KINDS = ["hourly", "diagnostic"];

const List = () => {
  const t = useTexts();
  const [read, change] = useAddress();
  const loaded = usePages<ReportRow>(route("reports", { kind: read("kind") }));
  return (
    <Card title={t("reports.list")}
      aside={<Choose label={t("reports.kind")} value={read("kind")} choices={[{ value: "", label: t("field.any") }, ...KINDS.map((value) => ({ value, label: value }))]} onChange={(kind) => { change({ kind }); }} />}>
      <Ready loaded={loaded}>
        {(rows) => rows.length === 0 ? <Empty title={t("reports.none")}>{t("reports.none_do")}</Empty> : (
          <DataTable label={t("reports.list")} more={loaded.more} isLoading={loaded.isLoading}
            columns={[{ label: t("reports.period") }, { label: t("field.status") }, { label: t("reports.headline") }, { label: t("reports.kind") }, { label: t("reports.taken") }]}
            rows={rows.map((row) => ({
              key: row.snapshot_id, tone: row.status === "bad" ? "bad" : null,
              cells: [
                <PageLink key="p" to={links.report(row.snapshot_id)}><Period start={row.start} end={row.end} /></PageLink>, <StatusMark key="s" status={row.status} />,
                <Text key="h" value={row.headline} max={200} />, row.kind, <Instant key="t" at={row.taken_at} />,
              ],
            }))} />
        )}
      </Ready>
    </Card>
  );
};

const One = ({ snapshot }: { snapshot: string }) => {
  const t = useTexts();
  const report = useApi<Report>(route(`reports/${encodeURIComponent(snapshot)}`));
  const rows = usePages<ReportRow>(report.data ? route("reports", { kind: report.data.kind }) : null);
  const earlier = rows.data?.filter((row) => report.data && row.start < report.data.start).sort((a, b) => (a.start < b.start ? 1 : -1))[0];
  const before = useApi<Report>(earlier ? route(`reports/${earlier.snapshot_id}`) : null);
  return (
    <Stack gap={4}>
      <Flex gap={4} wrap="wrap">
        <PageLink to={links.report()}>{t("reports.back")}</PageLink>
        <Link href={new URL(route(`reports/${encodeURIComponent(snapshot)}/html`), document.baseURI).href} target="_blank" rel="noopener" color="fg.info" textDecoration="underline">{t("reports.html")}</Link>
      </Flex>
      <Ready loaded={report}>
        {(data) => rows.isLoading || before.isLoading ? <Loading /> : <ReportBody report={data} before={before.data} hasChanges />}
      </Ready>
    </Stack>
  );
};

/** The stored reports; one of them where the address names it. */
export const Reports = () => {
  const [read] = useAddress();
  const snapshot = read("snapshot");
  return snapshot ? <One snapshot={snapshot} /> : <List />;
};
