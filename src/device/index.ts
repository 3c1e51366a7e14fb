export { type EnergyWork, estimateEnergy, HOROWITZ_PJ } from './energy/estimate.ts';
export { type Figure, unavailable } from './figure.ts';
export { type MachineProfile, machineProfile } from './profile.ts';
