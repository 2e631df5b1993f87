import { Shell } from "./components/Shell";
import { CycleOfDag, CycleOfRun } from "./pages/Cycle";
import { Detection as Pages } from "./pages/Detection";
import { FindingsOfTask } from "./pages/Findings";
import { Banner, HeadlineCard } from "./pages/Headline";

/** What Airflow gives each component; on a page without a Dag all are absent. */
type Place = { dagId?: string; runId?: string; taskId?: string; mapIndex?: string };

/** The page of the navigation, and the tab of a Dag and of a run. */
const Detection = ({ dagId, runId }: Place) => {
  if (dagId === undefined) return <Pages />;
  return <Shell>{runId === undefined ? <CycleOfDag dagId={dagId} /> : <CycleOfRun dagId={dagId} runId={runId} />}</Shell>;
};

/** The tab of a task and of a task instance. */
const Findings = ({ dagId = "", runId, taskId, mapIndex }: Place) => (
  <Shell><FindingsOfTask dagId={dagId} runId={runId} taskId={taskId} mapIndex={mapIndex} /></Shell>
);

// Airflow takes each component from the global that has its name (ui/surfaces.py).
Object.assign(globalThis, { Detection, Findings, DetectionHeadline: HeadlineCard, DetectionBanner: Banner });
