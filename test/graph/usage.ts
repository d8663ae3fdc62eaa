/** The usage that Meta reports, in percent of the hourly limits. */
export interface Usage {
  /** Of the app: X-App-Usage. */
  app?: number
  /** Of the app at one WABA: X-Business-Use-Case-Usage. */
  business?: number
  /** With `business`: the id of the WABA. */
  waba_id?: string
  /** With `business`: minutes until Meta allows calls again. */
  regain_minutes?: number
}

/** The headers that report the usage (Meta: Graph API, "Rate Limits"). */
export function usageHeaders (
  { app, business, waba_id: wabaId = '102290129340398', regain_minutes: regain = 0 }: Usage
): Record<string, string> {
  const headers: Record<string, string> = {}
  if (app !== undefined) headers['x-app-usage'] = JSON.stringify({ call_count: app, total_time: 1, total_cputime: 1 })
  if (business !== undefined) {
    const use = {
      type: 'whatsapp_business_management',
      call_count: business,
      total_cputime: 1,
      total_time: 1,
      estimated_time_to_regain_access: regain
    }
    headers['x-business-use-case-usage'] = JSON.stringify({ [wabaId]: [use] })
  }
  return headers
}
