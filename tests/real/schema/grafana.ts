// What a dashboard's parts must be, put together from Grafana's own types: 13.2, and 9.4 as far as that has types.
//
// A JSON file writes the values of enums as plain text, which TypeScript takes for no enum: hence Loose.
import type * as grafana from '@grafana/schema';
import type * as BarChart from '@grafana/schema/dist/esm/raw/composable/barchart/panelcfg/x/BarChartPanelCfg_types.gen';
import type * as BarGauge from '@grafana/schema/dist/esm/raw/composable/bargauge/panelcfg/x/BarGaugePanelCfg_types.gen';
import type * as Gauge from '@grafana/schema/dist/esm/raw/composable/gauge/panelcfg/x/GaugePanelCfg_types.gen';
import type * as Heatmap from '@grafana/schema/dist/esm/raw/composable/heatmap/panelcfg/x/HeatmapPanelCfg_types.gen';
import type * as PieChart from '@grafana/schema/dist/esm/raw/composable/piechart/panelcfg/x/PieChartPanelCfg_types.gen';
import type * as Stat from '@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen';
import type * as StateTimeline from '@grafana/schema/dist/esm/raw/composable/statetimeline/panelcfg/x/StateTimelinePanelCfg_types.gen';
import type * as Table from '@grafana/schema/dist/esm/raw/composable/table/panelcfg/x/TablePanelCfg_types.gen';
import type * as Text from '@grafana/schema/dist/esm/raw/composable/text/panelcfg/x/TextPanelCfg_types.gen';
import type * as TimeSeries from '@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen';
// The last version of the package that holds the queries of the Prometheus data source.
import type { PrometheusDataQuery } from '@grafana/schema-10/dist/esm/raw/composable/prometheus/dataquery/x/PrometheusDataQuery_types.gen';
import type * as grafana9 from '@grafana/schema-9';

type Loose<T> = T extends string
  ? `${T}`
  : T extends number | boolean | null | undefined
    ? T
    : T extends ReadonlyArray<infer Item>
      ? ReadonlyArray<Loose<Item>>
      : T extends object
        ? { [Key in keyof T]: Loose<T[Key]> }
        : T;

interface Kinds {
  barchart: { options: BarChart.Options; custom: BarChart.FieldConfig };
  bargauge: { options: BarGauge.Options; custom: Record<string, never> };
  gauge: { options: Gauge.Options; custom: Record<string, never> };
  heatmap: { options: Heatmap.Options; custom: Heatmap.FieldConfig };
  piechart: { options: PieChart.Options; custom: PieChart.FieldConfig };
  stat: { options: Stat.Options; custom: Record<string, never> };
  'state-timeline': { options: StateTimeline.Options; custom: StateTimeline.FieldConfig };
  table: { options: Table.Options; custom: Table.FieldConfig };
  text: { options: Text.Options; custom: Record<string, never> };
  timeseries: { options: TimeSeries.Options; custom: TimeSeries.FieldConfig };
}

type Defaults = Omit<grafana.FieldConfig, 'custom' | 'links'> & { links?: grafana.DashboardLink[] | DataLink[] };

interface DataLink {
  title: string;
  url: string;
  targetBlank?: boolean;
}

interface FieldConfigOf<Custom> {
  defaults: Loose<Defaults> & { custom?: Partial<Loose<Custom>> };
  // The values of overrides are judged one by one: see Override.
  overrides: ReadonlyArray<Loose<{ matcher: grafana.MatcherConfig; properties: { id: string; value?: unknown }[] }>>;
}

type Same = 'type' | 'options' | 'fieldConfig' | 'targets';

export type Panel<Kind extends keyof Kinds> = Loose<Omit<grafana.Panel, Same>> & {
  type: Kind;
  options: Partial<Loose<Kinds[Kind]['options']>>;
  fieldConfig?: FieldConfigOf<Kinds[Kind]['custom']>;
  targets?: ReadonlyArray<Loose<PrometheusDataQuery & { interval?: string }>>;
};

export type Row = Loose<Omit<grafana.RowPanel, 'panels'>> & { panels: readonly [] };

type At<T, Path> = Path extends `${infer Head}.${infer Tail}`
  ? Head extends keyof T
    ? At<NonNullable<T[Head]>, Tail>
    : never
  : Path extends keyof T
    ? T[Path]
    : never;

export type Override<Kind extends keyof Kinds, Id> = Loose<
  Id extends `custom.${infer Path}` ? At<Kinds[Kind]['custom'], Path> : At<Defaults, Id>
>;

// How an annotation asks Prometheus stands in no package of types.
type AnnotationOfPrometheus = grafana.AnnotationQuery & {
  expr?: string;
  step?: string;
  tagKeys?: string;
  textFormat?: string;
  titleFormat?: string;
  useValueForTime?: boolean;
};

// Where nothing was ever chosen, Grafana itself writes `current: {}`.
type Variable = Omit<grafana.VariableModel, 'current'> & {
  current?: grafana.VariableModel['current'] | Record<string, never>;
  // What the query was when it was last edited: for the editor alone.
  definition?: string;
};

export type Dashboard = Loose<
  Omit<grafana.Dashboard, 'panels' | 'annotations' | 'templating'> & {
    annotations?: { list?: AnnotationOfPrometheus[] };
    templating?: { list?: Variable[] };
  }
>;

// Grafana 9.4 passes over what it does not know. So what newer versions have added may be there; what 9.4 does
// know must have values that it takes.
type Defaults9 = Omit<grafana9.FieldConfig, 'custom' | 'thresholds'> & {
  // Its data library takes null for infinity, which JSON has not.
  thresholds?: { mode: grafana9.ThresholdsMode; steps: { color: string; value?: number | null }[] };
};

interface Kinds9 {
  bargauge: { options: grafana9.SingleStatBaseOptions; custom: {} };
  gauge: { options: grafana9.SingleStatBaseOptions; custom: {} };
  piechart: { options: grafana9.SingleStatBaseOptions; custom: grafana9.HideableFieldConfig };
  stat: {
    options: grafana9.SingleStatBaseOptions & {
      colorMode: grafana9.BigValueColorMode;
      graphMode: grafana9.BigValueGraphMode;
      justifyMode: grafana9.BigValueJustifyMode;
      textMode: grafana9.BigValueTextMode;
    };
    custom: {};
  };
  'state-timeline': {
    options: grafana9.OptionsWithLegend & grafana9.OptionsWithTooltip & { showValue: grafana9.VisibilityMode };
    custom: grafana9.HideableFieldConfig & { fillOpacity?: number; lineWidth?: number };
  };
  table: { options: { showHeader?: boolean; sortBy?: grafana9.TableSortByFieldState[] }; custom: grafana9.TableFieldOptions };
  timeseries: { options: grafana9.OptionsWithLegend & grafana9.OptionsWithTooltip; custom: grafana9.GraphFieldConfig };
}

export type Panel9<Kind extends string> = Loose<Partial<Omit<grafana9.Panel, 'options' | 'fieldConfig'>>> &
  (Kind extends keyof Kinds9
    ? {
        options: Partial<Loose<Kinds9[Kind]['options']>>;
        fieldConfig?: { defaults: Loose<Defaults9> & { custom?: Partial<Loose<Kinds9[Kind]['custom']>> } };
      }
    : unknown);

export type Override9<Kind extends string, Id> = Kind extends keyof Kinds9
  ? Loose<Id extends `custom.${infer Path}` ? At<Kinds9[Kind]['custom'], Path> : At<Defaults9, Id>>
  : unknown;

export type Dashboard9 = Loose<Partial<Omit<grafana9.Dashboard, 'id' | 'panels' | 'templating' | 'annotations'>>> & {
  id?: null;
};
