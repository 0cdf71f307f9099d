export const WITHOUT_STORE: Record<string, string> = {};
export const WITH_STORE: Record<string, string> = {};
